// Package seal encrypts what the service must read back from PostgreSQL, such as signing keys and the seeds of
// authenticator apps. Each sealed text is bound to its place, so that it cannot be opened in another row.
package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrSealed means that sealed bytes cannot be opened: they were changed, belong to another place, or were sealed under a
// secret key that the service does not have.
var ErrSealed = errors.New("sealed data cannot be opened: check LATCHKEY_SECRET_KEY and LATCHKEY_SECRET_KEY_PREVIOUS")

// Why sealed bytes cannot be opened. Each wraps ErrSealed.
var (
	ErrCut        = fmt.Errorf("%w: it is cut short", ErrSealed)
	ErrVersion    = fmt.Errorf("%w: it is sealed in a format that this version does not know", ErrSealed)
	ErrUnknownKey = fmt.Errorf("%w: it was sealed under another key", ErrSealed)
	ErrChanged    = fmt.Errorf("%w: it was changed or belongs to another place", ErrSealed)
)

// Sealed bytes are the version (1 byte), the id of the key (4), a nonce (24), and the XChaCha20-Poly1305 ciphertext. A
// random nonce of 192 bits does not repeat, however much is sealed.
const (
	version   = 1
	keyBytes  = 32
	idBytes   = 4
	headBytes = 1 + idBytes + chacha20poly1305.NonceSizeX
)

// HeadBytes is how many bytes at the beginning say which key has sealed the rest: Sealer.Head returns those of the
// current key.
const HeadBytes = 1 + idBytes

// Sealer seals with its first key and opens with all.
type Sealer struct{ keys []key }

// key is one secret in the form that the cipher needs. The id only says which secret to try. It is derived one way, and
// proves nothing.
type key struct {
	id   []byte
	aead cipher.AEAD
}

// New returns a Sealer for secrets of 32 bytes each, the current one first. What is sealed under one label cannot be
// opened under another. The secrets must have no other use.
func New(label string, secrets [][]byte) (*Sealer, error) {
	if len(secrets) == 0 {
		return nil, errors.New("seal: no key")
	}
	s := &Sealer{}
	for i, secret := range secrets {
		if len(secret) != keyBytes {
			return nil, fmt.Errorf("seal: key %d has %d bytes, it needs %d", i, len(secret), keyBytes)
		}
		material, err := hkdf.Key(sha256.New, secret, nil, label, keyBytes+idBytes)
		if err != nil {
			return nil, fmt.Errorf("seal: derive a key: %w", err)
		}
		aead, err := chacha20poly1305.NewX(material[:keyBytes])
		if err != nil {
			return nil, fmt.Errorf("seal: derive a key: %w", err)
		}
		s.keys = append(s.keys, key{id: material[keyBytes:], aead: aead})
	}
	return s, nil
}

// Head returns the first HeadBytes of everything that the current key seals.
func (s *Sealer) Head() []byte { return append([]byte{version}, s.keys[0].id...) }

// Seal encrypts plain for a place, such as a table, a column and the id of a row.
func (s *Sealer) Seal(place string, plain []byte) []byte {
	current := s.keys[0]
	out := make([]byte, headBytes, headBytes+len(plain)+current.aead.Overhead())
	copy(out, s.Head())
	_, _ = rand.Read(out[HeadBytes:]) // never fails (crypto/rand, since Go 1.24)
	return current.aead.Seal(out, out[HeadBytes:headBytes], plain, []byte(place))
}

// Open returns what was sealed for a place, and whether the current key has sealed it. The errors wrap ErrSealed.
func (s *Sealer) Open(place string, sealed []byte) (plain []byte, current bool, err error) {
	if len(sealed) < headBytes {
		return nil, false, ErrCut
	}
	if sealed[0] != version {
		return nil, false, ErrVersion
	}
	err = ErrUnknownKey
	for i, k := range s.keys {
		// Two secrets may have the same id (1 in 2^32): if one fails, try the next.
		if !bytes.Equal(k.id, sealed[1:HeadBytes]) {
			continue
		}
		if plain, openErr := k.aead.Open(nil, sealed[HeadBytes:headBytes], sealed[headBytes:], []byte(place)); openErr == nil {
			return plain, i == 0, nil
		}
		err = ErrChanged
	}
	return nil, false, err
}
