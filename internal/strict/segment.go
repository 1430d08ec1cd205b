// Package strict reads data that may have one spelling only: base64url segments and JSON objects, as tokens
// hold them. Where a text had two spellings, one check could pass the first and another could read the
// second; a token that was revoked by its hash could come back in another spelling.
//
// It is a base that every package may import, and imports none of ours.
package strict

import (
	"encoding/base64"
	"errors"
	"strings"
)

// ErrSegment reports a text that is not strict base64url.
var ErrSegment = errors.New("not base64url")

// Segment decodes base64url (RFC 4648, section 5) without padding and white space, and with unused bits zero,
// so that only one text decodes to a given result. The empty text is the empty segment. It fails with
// ErrSegment, which quotes nothing of the text.
func Segment(text string) ([]byte, error) {
	// The decoder skips CR and LF even when strict.
	if strings.ContainsAny(text, "\r\n") {
		return nil, ErrSegment
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrSegment
	}
	return data, nil
}
