package account

import (
	"testing"

	"github.com/latchkey-auth/latchkey/internal/jobs"
)

// If a count were swept while it still limits something, more mails would be sent than allowed.
func TestCountsOutliveTheirWindows(t *testing.T) {
	t.Parallel()
	if longest := max(noticeGap, noticeWindow, linkWindow); jobs.NoticeCountLife <= longest {
		t.Errorf("counts of notices are swept after %v, and bound the next for %v", jobs.NoticeCountLife, longest)
	}
}
