package account

import (
	"testing"

	"github.com/latchkey-auth/latchkey/internal/jobs"
)

// TestCountsOutliveTheirWindows: a count that was swept while it still bounds something would let more mails go out.
func TestCountsOutliveTheirWindows(t *testing.T) {
	t.Parallel()
	if longest := max(noticeGap, noticeWindow, linkWindow); jobs.NoticeCountLife <= longest {
		t.Errorf("counts of notices are swept after %v, and bound the next for %v", jobs.NoticeCountLife, longest)
	}
}
