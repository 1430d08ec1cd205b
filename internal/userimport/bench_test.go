package userimport_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

// BenchmarkReadAndCheck measures the work of an import for each account before it uses the database.
func BenchmarkReadAndCheck(b *testing.B) {
	var text strings.Builder
	for i := range b.N {
		fmt.Fprintf(&text, `{"id":"%s","email":"First.Last%d@example.com","password_hash":"%s","first_name":"First","last_name":"Last%d","created_at":"2023-01-02T03:04:05Z","email_verified":true}`+"\n",
			uuid.New(), i, []string{bcryptHash, argonHash}[i%2], i)
	}
	b.ResetTimer()
	b.ReportAllocs()
	r, err := userfile.NewReader(strings.NewReader(text.String()), userfile.Options{Now: now})
	if err != nil {
		b.Fatal(err)
	}
	if n := userimport.ReadAll(b.Context(), r, now()); n != b.N {
		b.Errorf("%d of %d were good", n, b.N)
	}
}
