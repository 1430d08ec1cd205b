// Package strict reads data that may have only one spelling: base64url segments and JSON objects, as in tokens. If a
// text had two spellings, one check could accept the first and another could read the second. A token that was revoked
// by its hash could return in another spelling.
//
// Every package may import it. It imports no other package of this repository.
package strict

import (
	"encoding/base64"
	"errors"
	"strings"
)

// ErrSegment means that a text is not strict base64url.
var ErrSegment = errors.New("not base64url")

// Segment decodes base64url (RFC 4648, section 5) without padding and white space, and with unused bits zero, so that
// only one text decodes to each result. The empty text decodes to the empty segment. The only error is ErrSegment,
// which does not quote the text.
func Segment(text string) ([]byte, error) {
	// The decoder ignores CR and LF even in strict mode.
	if strings.ContainsAny(text, "\r\n") {
		return nil, ErrSegment
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrSegment
	}
	return data, nil
}
