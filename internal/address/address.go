// Package address has the one form in which mail addresses are compared, for
// whoever stores or looks up accounts.
package address

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Lookup is the form in which addresses are compared: NFC, lower case, and NFC again,
// since lower case can undo it. SQL's latchkey_email_lookup does the same for rows
// that other programs write.
func Lookup(email string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(email)))
}
