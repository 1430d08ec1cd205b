// Package device makes and checks device tokens. A device token proves that a client has logged in to an
// account before. Failed logins of a client with a device token have a counter of their own, so strangers who
// guess passwords cannot lock the owner out. It is no credential: it is worth nothing without the password.
//
// A token is version, account, password epoch, time of issue, device, and an HMAC-SHA-256 of these, in
// base64url. None of it is stored.
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
	// Life is how long a token is valid. People return to a client after a long holiday, but not after years.
	Life = 366 * 24 * time.Hour
	// maxAhead is how far in the future the time of issue may be, because the clocks of replicas differ.
	maxAhead = time.Minute
	minKey   = 32

	version    = 1
	bodyLength = 1 + 16 + 8 + 8 + 16
	length     = bodyLength + sha256.Size
)

// Token is the content of a device token.
type Token struct {
	// UserID is the account.
	UserID uuid.UUID
	// Epoch is the password epoch of the account: when the password changes, the token is void.
	Epoch int64
	// ID is the id of the device: random in its first token, and the same in later ones.
	ID uuid.UUID
}

// Tokens makes and checks device tokens. It is safe for concurrent use.
type Tokens struct {
	keys [][]byte
	now  func() time.Time
}

// New returns Tokens that makes MACs with the first key, and accepts those of all keys: the others belong to
// previous secret keys. Each key has 32 bytes or more.
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

// Issue returns the text of t. Its time of issue is now.
func (d *Tokens) Issue(t Token) string {
	body := make([]byte, 0, length)
	body = append(body, version)
	body = append(body, t.UserID[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(t.Epoch))        //nolint:gosec // G115: any bits will do
	body = binary.BigEndian.AppendUint64(body, uint64(d.now().Unix())) //nolint:gosec // G115: any bits will do
	body = append(body, t.ID[:]...)
	return base64.RawURLEncoding.EncodeToString(append(body, mac(d.keys[0], body)...))
}

// Open returns the content of a token. It returns false if the text is not a device token, if another key
// made it, or if it is too old.
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

// mac covers the purpose too: if the key had another use by mistake, the MACs of that use would not be device
// tokens.
func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("latchkey device token\x00"))
	h.Write(body)
	return h.Sum(nil)
}
