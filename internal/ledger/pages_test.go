package ledger_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestSeveralPages: a replica that follows, and one that reads everything anew, have every row, however many
// pages the rows fill: less than one, just one or more, with the last one full or not.
func TestSeveralPages(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	const pageSize = 3
	paged := func() *replica {
		r := open(t, url, nil)
		r.SetPageSize(pageSize)
		r.run(t).trusted(t)
		return r
	}
	follows := paged()
	user := uuid.New()
	var sessions []uuid.UUID
	for _, rows := range []int{1, pageSize - 1, pageSize, pageSize + 1, 3 * pageSize, 3*pageSize + 2} {
		fresh := make([]uuid.UUID, rows)
		for i := range fresh {
			fresh[i] = uuid.New()
		}
		sessions = slices.Concat(sessions, fresh)
		// One transaction, so that one renewal finds them all.
		last := query[int64](t, pool, `SELECT max(latchkey_append_revocation('session', session, $1, NULL, NULL, NULL))
			FROM unnest($2::uuid[]) AS session`, user, fresh)
		resets := follows.follower.timesReset()
		if err := follows.Wait(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		for i, session := range fresh {
			if !follows.Refuses(user, session, last, "") {
				t.Errorf("the replica that follows lacks row %d of %d", i+1, rows)
			}
		}
		if follows.follower.timesReset() != resets {
			t.Errorf("the replica that follows read everything anew for %d rows", rows)
		}
		starts := paged()
		for i, session := range sessions {
			if !starts.Refuses(user, session, last, "") {
				t.Errorf("the replica that starts lacks row %d of %d", i+1, len(sessions))
			}
		}
		if read, err := starts.ReadAfter(ledger.Position{}, 1000); err != nil || !read.Complete || len(read.Rows) != len(sessions) {
			t.Errorf("a watcher of the replica that starts gets %d of %d rows, %v", len(read.Rows), len(sessions), err)
		}
		starts.leave()
	}
}
