// Package page makes and reads the tokens with which clients ask for the next page of a list.
package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/strict"
)

// A page token names the row after which the next page starts: version, seconds and nanoseconds, id, MAC. It has
// nothing that its reader has not seen. Without the MAC, a caller could make up a position and page through a list of
// somebody else.
const (
	version = 1
	// macSize is 128 bits. A forger can test each guess only at the server.
	macSize  = 16
	bodySize = 1 + 8 + 4 + 16
	// tokenSize is a multiple of 3, so that the base64 text has no spare bits and a token has only one spelling.
	tokenSize = bodySize + macSize
)

// Tokens makes and reads page tokens. Use New.
type Tokens struct{ key []byte }

// New returns Tokens with a key, which must be the same on all replicas.
func New(key []byte) (Tokens, error) {
	if len(key) == 0 {
		return Tokens{}, errors.New("page tokens without a key could be made by anybody")
	}
	return Tokens{key}, nil
}

// Seal makes the token for the rows after (at, id). Open accepts it only with the same purpose (the method) and the
// same owner ("" if the list has none).
func (t Tokens) Seal(purpose, owner string, at time.Time, id uuid.UUID) string {
	token := make([]byte, 0, tokenSize)
	token = append(token, version)
	token = binary.BigEndian.AppendUint64(token, uint64(at.Unix()))       //nolint:gosec // G115: read back the same way
	token = binary.BigEndian.AppendUint32(token, uint32(at.Nanosecond())) //nolint:gosec // G115: under 10^9
	token = append(token, id[:]...)
	token = append(token, t.mac(purpose, owner, token)...)
	return base64.RawURLEncoding.EncodeToString(token)
}

// Open reads a token of Seal. It refuses all other text as the field page_token, also a token of another list or
// another owner.
func (t Tokens) Open(purpose, owner, text string) (at time.Time, id uuid.UUID, err error) {
	token, err := strict.Segment(text)
	if err != nil || len(token) != tokenSize || len(text) != base64.RawURLEncoding.EncodedLen(tokenSize) ||
		!hmac.Equal(token[bodySize:], t.mac(purpose, owner, token[:bodySize])) || token[0] != version {
		return time.Time{}, uuid.Nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "page_token", "PAGE_TOKEN",
			"is not the next_page_token of this list: begin with the first page")
	}
	seconds := int64(binary.BigEndian.Uint64(token[1:])) //nolint:gosec // G115: written the same way
	at = time.Unix(seconds, int64(binary.BigEndian.Uint32(token[9:]))).UTC()
	return at, uuid.UUID(token[13:bodySize]), nil
}

// Opaque returns a name of 22 characters for a number that the client must not see. It stays the same as long as the key
// does.
func (t Tokens) Opaque(purpose, owner string, n int64) string {
	name := t.mac(purpose+" id", owner, binary.BigEndian.AppendUint64(nil, uint64(n))) //nolint:gosec // G115: any bits do
	return base64.RawURLEncoding.EncodeToString(name)
}

// mac includes the lengths of purpose and owner, so that no part of one can pass as a part of the other.
func (t Tokens) mac(purpose, owner string, body []byte) []byte {
	sum := hmac.New(sha256.New, t.key)
	for _, part := range []string{purpose, owner} {
		_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // G115: names and ids; a hash never fails
		_, _ = sum.Write([]byte(part))
	}
	_, _ = sum.Write(body)
	return sum.Sum(nil)[:macSize]
}
