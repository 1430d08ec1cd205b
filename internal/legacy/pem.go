package legacy

import (
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// ParsePublicKey reads an RSA public key in PEM: SubjectPublicKeyInfo, PKCS #1, or a certificate.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("has no PEM block")
	}
	if block.Type == "PRIVATE KEY" || block.Type == "RSA PRIVATE KEY" {
		return nil, errors.New("holds a private key: the public one is enough here")
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("holds no RSA public key (its block is %q)", block.Type)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return key, nil
}

// ParsePrivateKey reads an RSA private key in PEM: PKCS #8 or PKCS #1, not encrypted.
// Its errors hold nothing of the key.
func ParsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("has no PEM block")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("holds a key under a passphrase: write it in the clear (openssl pkey -in OLD -out NEW) and let nobody else read the file")
	}
	if block.Type == "PUBLIC KEY" || block.Type == "RSA PUBLIC KEY" || block.Type == "CERTIFICATE" {
		return nil, errors.New("holds a public key: the private one is needed here")
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("holds no RSA private key (its block is %q)", block.Type)
	}
	if err := checkKey(&key.PublicKey); err != nil {
		return nil, err
	}
	return key, nil
}

// checkKey refuses the keys that authverify refuses too.
func checkKey(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case bits < minRSABits:
		return fmt.Errorf("holds an RSA key of %d bits: %d is the least (RFC 7518, section 3.3)", bits, minRSABits)
	case bits > maxRSABits:
		return fmt.Errorf("holds an RSA key of %d bits: %d is the most", bits, maxRSABits)
	case key.E < minRSAExponent:
		return fmt.Errorf("holds an RSA key with the exponent %d: %d is the least (FIPS 186-5, section 5.4)", key.E, minRSAExponent)
	}
	return nil
}
