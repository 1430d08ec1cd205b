package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// jwk is a public key as RFC 7517 writes it.
type jwk struct {
	KeyType   string    `json:"kty"`
	Use       string    `json:"use,omitempty"`
	Algorithm Algorithm `json:"alg,omitempty"`
	KeyID     string    `json:"kid,omitempty"`
	Curve     string    `json:"crv,omitempty"`
	X         string    `json:"x,omitempty"`
	Y         string    `json:"y,omitempty"`
	N         string    `json:"n,omitempty"`
	E         string    `json:"e,omitempty"`
}

// newJWK returns the members that describe public itself.
func newJWK(public crypto.PublicKey) (jwk, error) {
	switch key := public.(type) {
	case ed25519.PublicKey:
		// RFC 8037, section 2.
		return jwk{KeyType: "OKP", Curve: "Ed25519", X: encodeSegment(key)}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return jwk{}, fmt.Errorf("token: %w", err)
		}
		if len(point) != 1+2*es256Width {
			return jwk{}, errors.New("token: the key is not on P-256")
		}
		// Coordinates keep their leading zeros (RFC 7518, section 6.2.1.2).
		return jwk{
			KeyType: "EC", Curve: "P-256",
			X: encodeSegment(point[1 : 1+es256Width]), Y: encodeSegment(point[1+es256Width:]),
		}, nil
	case *rsa.PublicKey:
		// Integers lose theirs (RFC 7518, section 6.3.1).
		return jwk{
			KeyType: "RSA",
			N:       encodeSegment(key.N.Bytes()), E: encodeSegment(big.NewInt(int64(key.E)).Bytes()),
		}, nil
	}
	return jwk{}, fmt.Errorf("token: a %T has no JWK here", public)
}

// thumbprint is the key's id: RFC 7638 with SHA-256. The required members stand
// in the order of their names, without white space (section 3.2); base64url and
// the fixed names need no escaping.
func (j jwk) thumbprint() string {
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

// marshalJWKS returns the set of keys in the order given.
func marshalJWKS(keys []*signingKey) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: make([]jwk, 0, len(keys))}
	for _, key := range keys {
		entry := key.jwk
		entry.Use, entry.Algorithm, entry.KeyID = "sig", key.algorithm, key.id
		set.Keys = append(set.Keys, entry)
	}
	return json.Marshal(set)
}

// encodeSegment is base64url without padding (RFC 7515, section 2).
func encodeSegment(data []byte) string {
	return base64.RawURLEncoding.EncodeToString(data)
}
