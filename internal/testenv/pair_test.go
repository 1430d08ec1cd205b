package testenv_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestPair: the standby has every commit that the primary has answered, and a client that looks for the server that
// accepts writes finds it after each change.
func TestPair(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testenv.Pair){"read-only": (*testenv.Pair).SetReadOnly, "killed": (*testenv.Pair).Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := testenv.NewPair(t)
			ask := func(url string) (n int) {
				conn, err := pgx.Connect(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(t.Context()) //nolint:errcheck // nothing is under way
				if _, err := conn.Exec(t.Context(), "INSERT INTO store_checks VALUES ('')"); err != nil {
					t.Fatal(err)
				}
				if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM store_checks").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			if n := ask(pair.URL()); n != 1 {
				t.Errorf("%d rows", n)
			}
			change(pair)
			pair.Promote()
			if n := ask(pair.URL()); n != 2 {
				t.Errorf("%d rows after the change, want 2", n)
			}
		})
	}
}
