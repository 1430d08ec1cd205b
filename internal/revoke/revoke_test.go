package revoke_test

import (
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOnlyAppender holds that rows are appended to the ledger from here only: each flow of this package also records the
// event, deletes from Redis and waits until the row is final, which another caller would forget. internal/ledger itself
// gathers the ends of sessions into one statement, for Append, which only this package calls.
func TestOnlyAppender(t *testing.T) {
	t.Parallel()
	got := testenv.Callers(t, "AppendSessionRevocations", "AppendUserRevocation", "AppendAllRevocation", "AppendKeyRevocation")
	if want := []string{"internal/ledger", "internal/revoke"}; !slices.Equal(got, want) {
		t.Errorf("rows are appended in %q, want %q", got, want)
	}
	if got, want := testenv.Callers(t, "SessionEnd"), []string{"internal/revoke"}; !slices.Equal(got, want) {
		t.Errorf("ends of sessions are given to the ledger in %q, want %q", got, want)
	}
}
