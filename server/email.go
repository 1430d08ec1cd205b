package server

import (
	"strings"

	"github.com/latchkey-auth/latchkey/internal/address"
)

// emailLookup is the form in which addresses are compared.
func emailLookup(email string) string { return address.Lookup(email) }

// passwordContext lists the words that a new password must not be made of.
func passwordContext(email, firstName, lastName string) []string {
	local, _, _ := strings.Cut(email, "@")
	return []string{email, local, firstName, lastName, "latchkey"}
}
