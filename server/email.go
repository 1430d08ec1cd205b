package server

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// emailLookup is the form in which addresses are compared: NFC, lower case, and NFC
// again, since lower case can undo it. SQL's latchkey_email_lookup does the same for
// rows that other programs write.
func emailLookup(email string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(email)))
}

// passwordContext lists the words that a new password must not be made of.
func passwordContext(email, firstName, lastName string) []string {
	local, _, _ := strings.Cut(email, "@")
	return []string{email, local, firstName, lastName, "latchkey"}
}
