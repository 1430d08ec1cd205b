package accesstoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is the name of a signature algorithm in the header parameter "alg". A key has the same algorithm
// for its whole life.
type Algorithm string

// The allow list: nothing else ever signs or verifies.
const (
	// EdDSA is Ed25519 (RFC 8037). Tokens and keys may call it Ed25519 as well (RFC 9864).
	EdDSA Algorithm = "EdDSA"
	// ES256 is ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
	ES256 Algorithm = "ES256"
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3).
	RS256 Algorithm = "RS256"
)

const (
	// minRSAKeyBits is the minimum of RFC 7518, section 3.3.
	minRSAKeyBits = 2048
	// maxRSAKeyBits limits the time of a signature check.
	maxRSAKeyBits = 4096
	// minRSAExponent is the smallest exponent of FIPS 186-5, section 5.4.
	minRSAExponent = 65537
	// p256Width is the length in bytes of a coordinate of P-256.
	p256Width = 32
)

// ParseAlgorithm returns the algorithm with this name. Case matters, as RFC 7515, section 4.1.1, says. Its
// error is ErrAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) {
	algorithm := Algorithm(name)
	if algorithm.method() == nil {
		return "", fmt.Errorf("%w %q: use EdDSA, ES256 or RS256", ErrAlgorithm, name)
	}
	return algorithm, nil
}

// currentName returns name, but EdDSA for Ed25519, its name in RFC 9864, section 2.2. The key's type says
// which curve is used, so both names mean the same.
func currentName(name string) string {
	if name == "Ed25519" {
		return string(EdDSA)
	}
	return name
}

// method returns how a verifies, or nil for an unknown algorithm.
func (a Algorithm) method() jwt.SigningMethod {
	switch a {
	case EdDSA:
		return jwt.SigningMethodEdDSA
	case ES256:
		return jwt.SigningMethodES256
	case RS256:
		return jwt.SigningMethodRS256
	}
	return nil
}

// Key is a public key that checks signatures with one algorithm. It does not change after NewKey, and is safe
// for concurrent use.
type Key struct {
	algorithm Algorithm
	method    jwt.SigningMethod
	public    crypto.PublicKey
}

// NewKey returns public as a key for algorithm. It returns ErrKey if the type, curve or size of the key is
// not that of the algorithm, so that no token header can use the key in another way, and ErrAlgorithm if the
// algorithm is not on the allow list.
func NewKey(algorithm Algorithm, public crypto.PublicKey) (*Key, error) {
	key := &Key{algorithm: algorithm, method: algorithm.method(), public: public}
	switch algorithm {
	case EdDSA:
		if edwards, ok := public.(ed25519.PublicKey); !ok || len(edwards) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: EdDSA needs an Ed25519 key", ErrKey)
		}
		return key, nil
	case ES256:
		if point, ok := public.(*ecdsa.PublicKey); !ok || point.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w: ES256 needs a key on P-256", ErrKey)
		}
		return key, nil
	case RS256:
		modulus, ok := public.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%w: RS256 needs an RSA key", ErrKey)
		}
		if bits := modulus.N.BitLen(); bits < minRSAKeyBits || bits > maxRSAKeyBits {
			return nil, fmt.Errorf("%w: RS256 needs a modulus of %d to %d bits", ErrKey, minRSAKeyBits, maxRSAKeyBits)
		}
		if modulus.E < minRSAExponent || modulus.E%2 == 0 {
			return nil, fmt.Errorf("%w: RS256 needs an odd exponent of %d or more", ErrKey, minRSAExponent)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w %q", ErrAlgorithm, algorithm)
}

// Algorithm returns the one algorithm that the key is used with.
func (k *Key) Algorithm() Algorithm { return k.algorithm }

// Equal reports whether both are the same key for the same algorithm.
func (k *Key) Equal(other *Key) bool {
	public, ok := k.public.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.algorithm == other.algorithm && public.Equal(other.public)
}
