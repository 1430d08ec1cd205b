package audit_test

import (
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOnlyWriter holds that no other package inserts events with the generated queries. The ledger's append of ended
// sessions has a statement of its own, see the package's comment.
func TestOnlyWriter(t *testing.T) {
	t.Parallel()
	got := testenv.Callers(t, "RecordAuditEvent", "RecordRepeatedEvent", "RecordSignUpAttempt")
	if want := []string{"internal/audit"}; !slices.Equal(got, want) {
		t.Errorf("events are inserted in %q, want %q", got, want)
	}
}
