package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm names a signature algorithm as it stands in the "alg" header
// parameter. It belongs to a key for the key's whole life.
type Algorithm string

// The allow list: nothing else ever signs or verifies.
const (
	// EdDSA is Ed25519 (RFC 8037).
	EdDSA Algorithm = "EdDSA"
	// ES256 is ECDSA on P-256 with SHA-256 (RFC 7518, section 3.4).
	ES256 Algorithm = "ES256"
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3).
	RS256 Algorithm = "RS256"
)

// ErrAlgorithm reports an algorithm that is not on the allow list.
var ErrAlgorithm = errors.New("token: unsupported signature algorithm")

const (
	// rsaKeyBits is the size of the RSA keys made here, and the least that
	// RFC 7518, section 3.3, allows.
	rsaKeyBits = 2048
	// maxRSAKeyBits bounds what one signature check can cost.
	maxRSAKeyBits = 4096
	// minRSAExponent is the least exponent of FIPS 186-5, section 5.4.
	minRSAExponent = 65537
	// es256Width is the length in bytes of R, of S and of a coordinate of P-256.
	es256Width = 32
)

// ParseAlgorithm returns the algorithm called name. The match is exact, as RFC
// 7515, section 4.1.1, has it. It fails with ErrAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) {
	algorithm := Algorithm(name)
	switch algorithm {
	case EdDSA, ES256, RS256:
		return algorithm, nil
	}
	return "", fmt.Errorf("%w %q: use EdDSA, ES256 or RS256", ErrAlgorithm, name)
}

// method returns how a signs and verifies, or nil for an unknown algorithm.
func (a Algorithm) method() jwt.SigningMethod {
	switch a {
	case EdDSA:
		return jwt.SigningMethodEdDSA
	case ES256:
		return deterministicES256{jwt.SigningMethodES256}
	case RS256:
		return jwt.SigningMethodRS256
	}
	return nil
}

// generate makes a new private key for a.
func (a Algorithm) generate() (crypto.Signer, error) {
	switch a {
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaKeyBits)
	}
	return nil, fmt.Errorf("%w %q", ErrAlgorithm, a)
}

// check returns an error unless public is a sound key for a. A key's type, curve
// and size follow from its algorithm, so that no header can use it another way.
func (a Algorithm) check(public crypto.PublicKey) error {
	switch a {
	case EdDSA:
		if key, ok := public.(ed25519.PublicKey); !ok || len(key) != ed25519.PublicKeySize {
			return errors.New("EdDSA needs an Ed25519 key")
		}
		return nil
	case ES256:
		if key, ok := public.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			return errors.New("ES256 needs a key on P-256")
		}
		return nil
	case RS256:
		key, ok := public.(*rsa.PublicKey)
		if !ok {
			return errors.New("RS256 needs an RSA key")
		}
		if bits := key.N.BitLen(); bits < rsaKeyBits || bits > maxRSAKeyBits {
			return fmt.Errorf("RS256 needs a modulus of %d to %d bits", rsaKeyBits, maxRSAKeyBits)
		}
		if key.E < minRSAExponent || key.E%2 == 0 {
			return fmt.Errorf("RS256 needs an odd exponent of %d or more", minRSAExponent)
		}
		return nil
	}
	return fmt.Errorf("%w %q", ErrAlgorithm, a)
}

// deterministicES256 verifies as the library does and signs by RFC 6979: the
// same claims give the same token, and a weak random source cannot leak the key.
type deterministicES256 struct{ *jwt.SigningMethodECDSA }

// Sign returns R and S, each in 32 bytes (RFC 7518, section 3.4).
func (deterministicES256) Sign(signingString string, key any) ([]byte, error) {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, jwt.ErrInvalidKeyType
	}
	digest := sha256.Sum256([]byte(signingString))
	// No random source selects the deterministic nonce.
	der, err := private.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &point); err != nil {
		return nil, err
	}
	signature := make([]byte, 2*es256Width)
	point.R.FillBytes(signature[:es256Width])
	point.S.FillBytes(signature[es256Width:])
	return signature, nil
}
