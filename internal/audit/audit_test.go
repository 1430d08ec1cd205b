package audit_test

import (
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOnlyWriter checks that no other package inserts events with the generated queries. The ledger has a statement of
// its own for ended sessions: see the comment of the package.
func TestOnlyWriter(t *testing.T) {
	t.Parallel()
	got := testenv.Callers(t, "RecordAuditEvent", "RecordRepeatedEvent", "RecordSignUpAttempt")
	if want := []string{"internal/audit"}; !slices.Equal(got, want) {
		t.Errorf("events are inserted in %q, want %q", got, want)
	}
}
