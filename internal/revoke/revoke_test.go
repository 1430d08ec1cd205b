package revoke_test

import (
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOnlyAppender checks that only this package appends rows to the ledger. Each of its flows also records the event,
// deletes from Redis and waits until the row is final; other code would forget one of them. internal/ledger gathers the
// ends of sessions into one statement, but only for Append, which only this package calls. scalebench measures the
// statements.
func TestOnlyAppender(t *testing.T) {
	t.Parallel()
	got := testenv.Callers(t, "AppendSessionRevocations", "AppendUserRevocation", "AppendAllRevocation", "AppendKeyRevocation")
	if want := []string{"internal/ledger", "internal/revoke", "internal/testenv/scalebench"}; !slices.Equal(got, want) {
		t.Errorf("rows are appended in %q, want %q", got, want)
	}
	if got, want := testenv.Callers(t, "SessionEnd"), []string{"internal/revoke"}; !slices.Equal(got, want) {
		t.Errorf("ends of sessions are given to the ledger in %q, want %q", got, want)
	}
}
