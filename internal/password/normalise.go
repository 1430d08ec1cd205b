package password

import (
	"errors"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxLength is the most code points of a password after NFC normalisation.
const MaxLength = 128

// maxTypedBytes bounds the work of normalising. No code point decomposes into more than four (U+1F82 does). So a text
// that has MaxLength code points after NFC was typed with at most four times as many, of at most four bytes each.
const maxTypedBytes = MaxLength * 4 * utf8.UTFMax

// ErrTooLong is returned for a password of more than MaxLength code points.
var ErrTooLong = errors.New("password is longer than 128 characters")

// normalise returns the NFC form. So é is the same password whether a keyboard sends it as one code point or as two.
// Nothing is ever cut off. Bytes that are not UTF-8 stay as they are and count as one code point each.
func normalise(password string) (string, error) {
	if len(password) > maxTypedBytes {
		return "", ErrTooLong
	}
	nfc := norm.NFC.String(password)
	if utf8.RuneCountInString(nfc) > MaxLength {
		return "", ErrTooLong
	}
	return nfc, nil
}

// compatibility returns the NFKC form of a password in NFC, in which full-width letters, ligatures and the like are
// plain letters. differs reports whether that form is another text and is not too long for a password.
func compatibility(nfc string) (nfkc string, differs bool) {
	nfkc = norm.NFKC.String(nfc)
	return nfkc, nfkc != nfc && utf8.RuneCountInString(nfkc) <= MaxLength
}
