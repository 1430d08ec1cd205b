package accesstoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

// JWK is a public key as RFC 7517 writes it.
type JWK struct {
	// KeyType is "kty": OKP, EC or RSA.
	KeyType string `json:"kty"`
	// Use is "use": sig for a key that signs.
	Use string `json:"use,omitempty"`
	// Algorithm is "alg".
	Algorithm Algorithm `json:"alg,omitempty"`
	// KeyID is "kid", which tokens name their key by.
	KeyID string `json:"kid,omitempty"`
	// Curve is "crv" of OKP and EC keys.
	Curve string `json:"crv,omitempty"`
	// X is "x" of OKP and EC keys, in base64url like all that follow.
	X string `json:"x,omitempty"`
	// Y is "y" of EC keys.
	Y string `json:"y,omitempty"`
	// N is "n", the modulus of RSA keys.
	N string `json:"n,omitempty"`
	// E is "e", the exponent of RSA keys.
	E string `json:"e,omitempty"`
}

// NewJWK returns the members that describe public itself. Its errors are ErrKey.
func NewJWK(public crypto.PublicKey) (JWK, error) {
	switch key := public.(type) {
	case ed25519.PublicKey:
		// RFC 8037, section 2.
		return JWK{KeyType: "OKP", Curve: "Ed25519", X: encodeSegment(key)}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || len(point) != 1+2*p256Width {
			return JWK{}, fmt.Errorf("%w: it is not on P-256", ErrKey)
		}
		// Coordinates keep their leading zeros (RFC 7518, section 6.2.1.2).
		return JWK{
			KeyType: "EC", Curve: "P-256",
			X: encodeSegment(point[1 : 1+p256Width]), Y: encodeSegment(point[1+p256Width:]),
		}, nil
	case *rsa.PublicKey:
		// Integers lose theirs (RFC 7518, section 6.3.1).
		return JWK{
			KeyType: "RSA",
			N:       encodeSegment(key.N.Bytes()), E: encodeSegment(big.NewInt(int64(key.E)).Bytes()),
		}, nil
	}
	return JWK{}, fmt.Errorf("%w: a %T has no JWK here", ErrKey, public)
}

// Thumbprint returns the thumbprint of RFC 7638, with SHA-256. Latchkey uses it as the id of its keys. The
// required members are in the order of their names, without white space (section 3.2). base64url and the
// fixed names need no escaping.
func (j JWK) Thumbprint() string {
	var canonical string
	switch j.KeyType {
	case "OKP":
		canonical = `{"crv":"` + j.Curve + `","kty":"OKP","x":"` + j.X + `"}`
	case "EC":
		canonical = `{"crv":"` + j.Curve + `","kty":"EC","x":"` + j.X + `","y":"` + j.Y + `"}`
	default:
		canonical = `{"e":"` + j.E + `","kty":"RSA","n":"` + j.N + `"}`
	}
	sum := sha256.Sum256([]byte(canonical))
	return encodeSegment(sum[:])
}

// ParseJWKS returns the keys of a JWK set (RFC 7517, section 5) that can check access tokens, with their
// "kid" as map key. It skips keys without an id, and keys whose type, algorithm, size or use is not on the
// allow list, so that the issuer may add new kinds. It returns ErrKey, and no keys, if anything in the set is
// damaged or ambiguous: a malformed key, a private key, an id or a member that is there twice, or no key at
// all.
func ParseJWKS(document []byte) (map[string]*Key, error) {
	set, err := strict.ParseObject(document)
	if err != nil {
		return nil, fmt.Errorf("%w: the set is %w", ErrKey, err)
	}
	entries, ok := set["keys"].([]any)
	if !ok {
		return nil, fmt.Errorf("%w: the set has no list of keys", ErrKey)
	}
	keys := make(map[string]*Key, len(entries))
	for _, entry := range entries {
		described, ok := entry.(strict.Object)
		if !ok {
			return nil, fmt.Errorf("%w: the list of keys has an entry that is no object", ErrKey)
		}
		id, key, err := publicJWK{described}.publicKey()
		if err != nil {
			return nil, err
		}
		if key == nil {
			continue
		}
		if keys[id] != nil {
			return nil, fmt.Errorf("%w: the set has two keys of one id", ErrKey)
		}
		keys[id] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the set has no key that checks access tokens", ErrKey)
	}
	return keys, nil
}

// publicJWK is a JWK that was fetched, and not checked yet.
type publicJWK struct{ strict.Object }

// publicKey reads a JWK. A nil key without an error means: skip it.
func (m publicJWK) publicKey() (id string, key *Key, err error) {
	// RFC 7518, sections 6.2.2, 6.3.2 and 6.4: an issuer that publishes these has lost its private key, or
	// publishes a shared secret.
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, present := m.Object[private]; present {
			return "", nil, fmt.Errorf("%w: the set publishes a private key", ErrKey)
		}
	}
	id, _ = m.Text("kid")
	if id == "" || !m.verifies() {
		return "", nil, nil
	}
	var algorithm Algorithm
	var public crypto.PublicKey
	kind, _ := m.Text("kty")
	curve, _ := m.Text("crv")
	switch {
	case kind == "OKP" && curve == "Ed25519":
		algorithm = EdDSA
		public, err = m.edwards()
	case kind == "EC" && curve == "P-256":
		algorithm = ES256
		public, err = m.point()
	case kind == "RSA":
		algorithm = RS256
		public, err = m.rsa()
	default:
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	if _, present := m.Object["alg"]; present {
		if name, _ := m.Text("alg"); currentName(name) != string(algorithm) {
			return "", nil, nil // Such as RS512: this package accepts no token of that algorithm.
		}
	}
	if key, err = NewKey(algorithm, public); err != nil {
		return "", nil, nil //nolint:nilerr // too small or too large: skip it, as RFC 7517, section 5, says
	}
	return id, key, nil
}

// verifies returns whether the key may check signatures (RFC 7517, sections 4.2 and 4.3). Both members may be
// absent.
func (m publicJWK) verifies() bool {
	if _, present := m.Object["use"]; present {
		if use, _ := m.Text("use"); use != "sig" {
			return false
		}
	}
	if _, present := m.Object["key_ops"]; present {
		if operations, _ := m.Texts("key_ops"); !slices.Contains(operations, "verify") {
			return false
		}
	}
	return true
}

// edwards reads RFC 8037, section 2.
func (m publicJWK) edwards() (crypto.PublicKey, error) {
	x, ok := m.bytes("x")
	if !ok || len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: a malformed Ed25519 key", ErrKey)
	}
	return ed25519.PublicKey(x), nil
}

// point reads RFC 7518, section 6.2.1. The parser returns an error for points that are not on the curve.
func (m publicJWK) point() (crypto.PublicKey, error) {
	x, okX := m.bytes("x")
	y, okY := m.bytes("y")
	if !okX || !okY || len(x) != p256Width || len(y) != p256Width {
		return nil, fmt.Errorf("%w: a malformed P-256 key", ErrKey)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("%w: a P-256 key that is not on its curve", ErrKey)
	}
	return public, nil
}

// rsa reads RFC 7518, section 6.3.1.
func (m publicJWK) rsa() (crypto.PublicKey, error) {
	n, okN := m.bytes("n")
	e, okE := m.bytes("e")
	// Integers have no leading zeros, so that a key has only one spelling. crypto/rsa does not accept an
	// exponent above 31 bits, so this does not parse one.
	if !okN || !okE || len(n) == 0 || len(e) == 0 || n[0] == 0 || e[0] == 0 || len(e) > 4 || (len(e) == 4 && e[0] > 0x7f) {
		return nil, fmt.Errorf("%w: a malformed RSA key", ErrKey)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

// bytes decodes the member name, a string in strict base64url.
func (m publicJWK) bytes(name string) ([]byte, bool) {
	text, ok := m.Text(name)
	if !ok {
		return nil, false
	}
	data, err := decodeSegment(text)
	return data, err == nil
}

// encodeSegment is base64url without padding (RFC 7515, section 2).
func encodeSegment(data []byte) string {
	return base64.RawURLEncoding.EncodeToString(data)
}
