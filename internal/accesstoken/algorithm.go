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

// Algorithm names a signature algorithm as it stands in the "alg" header parameter. It belongs to a key for
// the key's whole life.
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
	// minRSAKeyBits is the least that RFC 7518, section 3.3, allows.
	minRSAKeyBits = 2048
	// maxRSAKeyBits bounds what one signature check can cost.
	maxRSAKeyBits = 4096
	// minRSAExponent is the least exponent of FIPS 186-5, section 5.4.
	minRSAExponent = 65537
	// p256Width is the length in bytes of a coordinate of P-256.
	p256Width = 32
)

// ParseAlgorithm returns the algorithm called name. The match is exact, as RFC 7515, section 4.1.1, has it.
// It fails with ErrAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) {
	algorithm := Algorithm(name)
	if algorithm.method() == nil {
		return "", fmt.Errorf("%w %q: use EdDSA, ES256 or RS256", ErrAlgorithm, name)
	}
	return algorithm, nil
}

// currentName is name, or EdDSA for what RFC 9864, section 2.2, calls it: Ed25519. The type of the key says
// which curve it is, so that the two names mean the same.
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

// Key is a public key that checks signatures, bound to its algorithm for good. It is not changed after
// NewKey, and safe for concurrent use.
type Key struct {
	algorithm Algorithm
	method    jwt.SigningMethod
	public    crypto.PublicKey
}

// NewKey returns public as a key for algorithm. It fails with ErrKey, and with ErrAlgorithm for an algorithm
// that is not on the allow list. A key's type, curve and size follow from its algorithm, so that no header
// can use it another way.
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
