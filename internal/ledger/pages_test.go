package ledger_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
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

// TestStartReadsWhatIsInForce: a replica that starts finds the rows that can still refuse a token among many that cannot,
// whatever the order of their times is, and all rows while tokens of an older backend are accepted.
func TestStartReadsWhatIsInForce(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	user := uuid.New()
	inForce := func(want ...int64) {
		t.Helper()
		var got []int64
		q := db.New()
		for after := int64(0); ; {
			rows, err := q.RevocationsInForce(t.Context(), pool, db.RevocationsInForceParams{Seq: after, Page: 2})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				got, after = append(got, row.Seq), row.Seq
			}
			if len(rows) < 2 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in force are %v, want %v", got, want)
		}
	}
	inForce()
	var rows []int64
	for range 8 {
		rows = append(rows, query[int64](t, pool, "SELECT latchkey_append_revocation('session', gen_random_uuid(), $1, NULL, NULL, NULL)", user))
	}
	inForce(rows...)
	age := func(of []int64, minutes int) {
		t.Helper()
		query[int64](t, pool, `WITH aged AS (UPDATE revocations SET created_at = now() - make_interval(mins => $2) WHERE seq = ANY ($1) RETURNING 1)
			SELECT count(*) FROM aged`, of, minutes)
	}
	age(rows[:5], 60)
	inForce(rows[5:]...)
	age(rows[6:7], 16) // the clock was set back after row 5
	inForce(rows[5:]...)
	age(rows[5:6], 60) // and a row that is older follows
	age(rows[2:3], 1)
	inForce(rows[2], rows[6], rows[7])
	age(rows, 60)
	inForce()
	age(rows[7:], 0)
	inForce(rows[7])
	query[int64](t, pool, `WITH kept AS (SELECT latchkey_keep_for_legacy(now() + interval '1 hour')),
		ended AS (SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, NULL) AS seq FROM kept)
		SELECT seq FROM ended`, user)
	cutoff := query[int64](t, pool, "SELECT seq FROM ledger_head")
	age([]int64{cutoff}, 60)
	inForce(rows[7], cutoff) // tokens of an older backend live for any time
}
