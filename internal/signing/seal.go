package signing

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// ErrSealed means that a stored signing key cannot be opened, or differs from its row. The error that wraps
// it names the key and says what to do.
var ErrSealed = errors.New("signing key cannot be opened")

// A sealed key is the version (1 byte), the id of the seal key (4), a nonce (24), and the XChaCha20-Poly1305
// ciphertext of the private key in PKCS #8. A random nonce of 192 bits does not repeat, however many keys are
// sealed.
const (
	sealVersion    = 1
	sealKeyBytes   = 32
	sealKeyIDBytes = 4
	sealHeadBytes  = 1 + sealKeyIDBytes + chacha20poly1305.NonceSizeX
)

// sealer seals with its first key, and opens with all of its keys.
type sealer struct {
	keys []sealKey
}

// sealKey is one secret, in the form that the cipher needs. The id only says which secret to try. It is
// derived one way, and proves nothing.
type sealKey struct {
	id   []byte
	aead cipher.AEAD
}

// newSealer returns a sealer for secrets of 32 bytes each, the current one first.
func newSealer(secrets [][]byte) (*sealer, error) {
	if len(secrets) == 0 {
		return nil, errors.New("signing: Config.SealKeys needs a key")
	}
	s := &sealer{keys: make([]sealKey, 0, len(secrets))}
	for i, secret := range secrets {
		if len(secret) != sealKeyBytes {
			return nil, fmt.Errorf("signing: Config.SealKeys[%d] has %d bytes, it needs %d", i, len(secret), sealKeyBytes)
		}
		material, err := hkdf.Key(sha256.New, secret, nil, "latchkey signing key seal v1", sealKeyBytes+sealKeyIDBytes)
		if err != nil {
			return nil, fmt.Errorf("derive a seal key: %w", err)
		}
		aead, err := chacha20poly1305.NewX(material[:sealKeyBytes])
		if err != nil {
			return nil, fmt.Errorf("derive a seal key: %w", err)
		}
		s.keys = append(s.keys, sealKey{id: material[sealKeyBytes:], aead: aead})
	}
	return s, nil
}

// seal encrypts plain for the row with this key id and algorithm.
func (s *sealer) seal(id string, algorithm accesstoken.Algorithm, plain []byte) []byte {
	current := s.keys[0]
	out := make([]byte, sealHeadBytes, sealHeadBytes+len(plain)+current.aead.Overhead())
	out[0] = sealVersion
	copy(out[1:], current.id)
	nonce := out[1+sealKeyIDBytes : sealHeadBytes]
	// crypto/rand.Read returns no error: it would end the process.
	_, _ = rand.Read(nonce)
	return current.aead.Seal(out, nonce, plain, sealContext(id, algorithm))
}

// open returns the bytes that were sealed for the row with this key id and algorithm, and whether the current
// key has sealed them. It returns ErrSealed if it cannot.
func (s *sealer) open(id string, algorithm accesstoken.Algorithm, sealed []byte) (plain []byte, current bool, err error) {
	if len(sealed) < sealHeadBytes {
		return nil, false, fmt.Errorf("%w: %q: its sealed bytes are cut short", ErrSealed, id)
	}
	if sealed[0] != sealVersion {
		return nil, false, fmt.Errorf("%w: %q: it is sealed in format %d, which this version does not know",
			ErrSealed, id, sealed[0])
	}
	keyID, nonce := sealed[1:1+sealKeyIDBytes], sealed[1+sealKeyIDBytes:sealHeadBytes]
	known := false
	for i, key := range s.keys {
		// Two secrets may have the same id (1 in 2^32): if one fails, try the next.
		if !bytes.Equal(key.id, keyID) {
			continue
		}
		known = true
		plain, err := key.aead.Open(nil, nonce, sealed[sealHeadBytes:], sealContext(id, algorithm))
		if err == nil {
			return plain, i == 0, nil
		}
	}
	if known {
		return nil, false, fmt.Errorf("%w: %q: its sealed bytes were changed or belong to another key", ErrSealed, id)
	}
	return nil, false, fmt.Errorf("%w: %q: it was sealed under another LATCHKEY_SECRET_KEY; "+
		"give that one as LATCHKEY_SECRET_KEY_PREVIOUS, or if it is lost for good see \"Changing the secret key\" in docs/operations.md", ErrSealed, id)
}

// sealContext binds a sealed key to its row: bytes that were moved to another row, or whose row got another
// algorithm, cannot be opened. No algorithm has a NUL in its name.
func sealContext(id string, algorithm accesstoken.Algorithm) []byte {
	return []byte("latchkey signing key\x00" + string(algorithm) + "\x00" + id)
}
