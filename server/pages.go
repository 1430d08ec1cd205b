package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/strict"
)

// A page token says after which row the next page begins: version, seconds and
// nanoseconds, identifier, MAC. It holds nothing that its reader has not seen. The
// MAC is what keeps a caller from paging through a list that is not theirs, with a
// position of their own making.
const (
	pageVersion = 1
	// pageMACSize is 128 bits: a forger has to try each guess on the server.
	pageMACSize  = 16
	pageBodySize = 1 + 8 + 4 + 16
	// pageTokenSize is a multiple of 3: the base64 text has no spare bits, so that a
	// token has one spelling.
	pageTokenSize = pageBodySize + pageMACSize
)

// sealPage makes the token for the rows that come after (at, id). It opens only with
// the same purpose (the method) and owner ("" where the list has none).
func (s *Server) sealPage(purpose, owner string, at time.Time, id uuid.UUID) string {
	token := make([]byte, 0, pageTokenSize)
	token = append(token, pageVersion)
	token = binary.BigEndian.AppendUint64(token, uint64(at.Unix()))       //nolint:gosec // G115: read back the same way
	token = binary.BigEndian.AppendUint32(token, uint32(at.Nanosecond())) //nolint:gosec // G115: under 10^9
	token = append(token, id[:]...)
	token = append(token, s.pageMAC(purpose, owner, token)...)
	return base64.RawURLEncoding.EncodeToString(token)
}

// openPage reads what sealPage wrote. Anything else is refused as the field
// page_token, a token of another list or another owner included.
func (s *Server) openPage(purpose, owner, text string) (at time.Time, id uuid.UUID, err error) {
	token, err := strict.Segment(text)
	if err != nil || len(token) != pageTokenSize || len(text) != base64.RawURLEncoding.EncodedLen(pageTokenSize) ||
		!hmac.Equal(token[pageBodySize:], s.pageMAC(purpose, owner, token[:pageBodySize])) || token[0] != pageVersion {
		return time.Time{}, uuid.Nil, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "page_token", "PAGE_TOKEN",
			"is not the next_page_token of this list: begin with the first page")
	}
	seconds := int64(binary.BigEndian.Uint64(token[1:])) //nolint:gosec // G115: written the same way
	at = time.Unix(seconds, int64(binary.BigEndian.Uint32(token[9:]))).UTC()
	return at, uuid.UUID(token[13:pageBodySize]), nil
}

// pageMAC writes the lengths of purpose and owner too, so that nothing of one can
// pass for the other.
func (s *Server) pageMAC(purpose, owner string, body []byte) []byte {
	mac := hmac.New(sha256.New, s.cfg.PageTokenKey)
	for _, part := range []string{purpose, owner} {
		_, _ = mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // G115: names and ids; a hash never fails
		_, _ = mac.Write([]byte(part))
	}
	_, _ = mac.Write(body)
	return mac.Sum(nil)[:pageMACSize]
}
