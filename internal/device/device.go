// Package device makes and checks device tokens: proof that a client has logged in to an account before. A
// client that shows one is counted apart from others when logins of the account fail, so that strangers who
// guess cannot keep its owner out. It is no credential: without the password it opens nothing.
//
// A token is base64url of version, account, password epoch, time of issue and device, and of an HMAC-SHA-256
// over them. Nothing of it is stored.
package device

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

const (
	// Life is how long a token is good: people come back to a client after a long holiday, not after years.
	Life = 366 * 24 * time.Hour
	// maxAhead is how far in the future a token may be dated: replicas' clocks differ.
	maxAhead = time.Minute
	minKey   = 32

	version    = 1
	bodyLength = 1 + 16 + 8 + 8 + 16
	length     = bodyLength + sha256.Size
)

// Token is what a device token says.
type Token struct {
	// UserID is the account.
	UserID uuid.UUID
	// Epoch is that of the account's password: the token ends with the password.
	Epoch int64
	// ID is the device's, chosen at random with its first token and kept by later ones.
	ID uuid.UUID
}

// Tokens makes and checks device tokens. It is safe for concurrent use.
type Tokens struct {
	keys [][]byte
	now  func() time.Time
}

// New returns Tokens whose MACs are made with the first key; the others, of former secrets, still check. Each
// has 32 bytes or more.
func New(keys [][]byte, now func() time.Time) (*Tokens, error) {
	if len(keys) == 0 {
		return nil, errors.New("device: no key")
	}
	for _, key := range keys {
		if len(key) < minKey {
			return nil, errors.New("device: a key has fewer than 32 bytes")
		}
	}
	return &Tokens{keys, now}, nil
}

// Issue returns the text of t, dated now.
func (d *Tokens) Issue(t Token) string {
	body := make([]byte, 0, length)
	body = append(body, version)
	body = append(body, t.UserID[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(t.Epoch))        //nolint:gosec // G115: any bits will do
	body = binary.BigEndian.AppendUint64(body, uint64(d.now().Unix())) //nolint:gosec // G115: any bits will do
	body = append(body, t.ID[:]...)
	return base64.RawURLEncoding.EncodeToString(append(body, mac(d.keys[0], body)...))
}

// Open returns what a token says, and false for anything that is none, was made with another key, or is too
// old.
func (d *Tokens) Open(text string) (Token, bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(length) {
		return Token{}, false
	}
	raw, err := strict.Segment(text)
	if err != nil || raw[0] != version {
		return Token{}, false
	}
	body, sent := raw[:bodyLength], raw[bodyLength:]
	genuine := false
	for _, key := range d.keys {
		if hmac.Equal(sent, mac(key, body)) {
			genuine = true
		}
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(body[25:])), 0) //nolint:gosec // G115: as Issue wrote it
	age := d.now().Sub(issued)
	if !genuine || age > Life || age < -maxAhead {
		return Token{}, false
	}
	return Token{
		UserID: uuid.UUID(body[1:17]),
		Epoch:  int64(binary.BigEndian.Uint64(body[17:])), //nolint:gosec // G115: as Issue wrote it
		ID:     uuid.UUID(body[33:49]),
	}, true
}

// mac is over the purpose too: a key that served another one as well would not make these tokens.
func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("latchkey device token\x00"))
	h.Write(body)
	return h.Sum(nil)
}
