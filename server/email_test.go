package server_test

import (
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/server"
)

// TestLookupOfGoAndSQL: rows that other programs write are found by what Go looks
// for.
func TestLookupOfGoAndSQL(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for _, address := range []string{
		"ada@example.com", "ADA@EXAMPLE.COM", "JÖRG@MÜNCHEN.example", "jo\u0308rg@example.com", "JO\u0308RG@example.com",
		"ИВАН@пример.example", "ΣΊΣΥΦΟΣ@example.com", "李@example.com", "ẞ@example.com", "ﬁ@example.com", "Ⅷ@example.com", "\u212A@example.com",
	} {
		var fromSQL string
		if err := s.Pool.QueryRow(t.Context(), "SELECT latchkey_email_lookup($1)", address).Scan(&fromSQL); err != nil {
			t.Fatal(err)
		}
		if got := server.EmailLookup(address); got != fromSQL {
			t.Errorf("%q: %q in Go, %q in SQL", address, got, fromSQL)
		}
		if again := server.EmailLookup(fromSQL); again != fromSQL {
			t.Errorf("%q: %q is not final: %q", address, fromSQL, again)
		}
	}
}
