package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const day = 24 * time.Hour

// pass moves everything that the database has dated into the past.
func pass(t *testing.T, pool *pgxpool.Pool, by time.Duration) {
	t.Helper()
	exec(t, pool, "UPDATE revocations SET created_at = created_at - $1::interval, keep_until = keep_until - $1::interval", by)
	exec(t, pool, "UPDATE ledger_head SET legacy_until = legacy_until - $1::interval, forgotten_at = forgotten_at - $1::interval", by)
}

// sweep deletes what says nothing new.
func sweep(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := db.New().DeleteOldRevocations(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if _, err := db.New().DeleteOldCutoffs(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

// legacySession is an id like those of tokens of an older backend.
func legacySession(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.New()
	id[6] = id[6]&0x0f | 0x80
	return id
}

func acceptUntil(until time.Time) func(*ledger.Config) {
	return func(cfg *ledger.Config) { cfg.LegacyUntil = until }
}

// refusals are the ends of what an older backend has handed out, and of a session here.
type refusals struct{ user, session, owner, ours uuid.UUID }

func refuse(t *testing.T, pool *pgxpool.Pool) refusals {
	t.Helper()
	r := refusals{uuid.New(), legacySession(t), uuid.New(), uuid.New()}
	for _, id := range []uuid.UUID{r.session, r.ours} {
		query[int64](t, pool, "SELECT latchkey_append_revocation('session', $1, $2, NULL, NULL, NULL)", id, r.owner)
	}
	query[int64](t, pool, "SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, NULL)", r.user)
	return r
}

func (r refusals) wantHeld(t *testing.T, where *replica) {
	t.Helper()
	if !where.Refuses(r.user, uuid.New(), 0, "") {
		t.Error("a token of an account whose sessions were ended is accepted")
	}
	if !where.Refuses(r.owner, r.session, 0, "") {
		t.Error("a token that was ended is accepted")
	}
}

// TestKeptForOtherSystems: what can refuse a token of an older backend stays in force until none is accepted,
// on replicas that were there or start later, whichever replica appended it, also before anybody knew of such tokens.
// Rows that are only about sessions here are dropped.
func TestKeptForOtherSystems(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	unaware := start(t, url) // which appends with the lives that it knows
	before := refuse(t, pool)
	pass(t, pool, 29*day) // its rows are kept for 30
	aware := open(t, url, acceptUntil(time.Now().Add(90*day))).run(t)
	aware.trusted(t)
	before.wantHeld(t, aware)
	after := refuse(t, pool)
	_, _, position := unaware.end(t)
	if err := aware.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	after.wantHeld(t, aware)
	unaware.leave()

	pass(t, pool, 60*day)
	sweep(t, pool)
	if n := query[int](t, pool, "SELECT count(*) FROM revocations WHERE session_id = ANY ($1)", []uuid.UUID{before.ours, after.ours}); n != 0 {
		t.Errorf("%d rows of sessions that ended months ago are left", n)
	}
	again := open(t, url, acceptUntil(time.Now().Add(30*day))).run(t)
	again.trusted(t)
	before.wantHeld(t, again)
	after.wantHeld(t, again)
	if lost, known := again.Forgotten(); !known || !lost.IsZero() {
		t.Errorf("nothing was lost, and it says %v, %v", lost, known)
	}
	// Watchers accept no such tokens, and one row of a year must not hold up all others.
	if read, err := again.ReadAfter(ledger.Position{}, 100); err != nil || !read.Complete || len(read.Rows) != 0 {
		t.Errorf("a watcher gets %d old rows, %v", len(read.Rows), err)
	}

	// Over: all goes, and is missed.
	pass(t, pool, 31*day)
	sweep(t, pool)
	if n := query[int](t, pool, "SELECT count(*) FROM revocations"); n != 1 {
		t.Errorf("%d rows are left, want the newest", n)
	}
	late := open(t, url, acceptUntil(time.Now().Add(day))).run(t)
	late.trusted(t)
	lost, known := late.Forgotten()
	if age := time.Since(lost); !known || age < 91*day || age > 92*day {
		t.Errorf("rows that were appended 91 days ago are gone, and it says %v, %v", lost, known)
	}
}

// TestDeletedByHand: rows that somebody else deletes are missed too.
func TestDeletedByHand(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := open(t, url, acceptUntil(time.Now().Add(90*day))).run(t)
	r.trusted(t)
	refuse(t, pool)
	exec(t, pool, "DELETE FROM revocations WHERE substr(session_id::text, 15, 1) = '4'")
	if lost := query[bool](t, pool, "SELECT forgotten_at IS NOT NULL FROM ledger_head"); lost {
		t.Error("the end of a session here is missed for tokens of an older backend")
	}
	exec(t, pool, "DELETE FROM revocations WHERE kind = 'session'")
	testenv.Eventually(t, patience, "the replica knows that rows are gone", func() bool {
		lost, _ := r.Forgotten()
		return !lost.IsZero()
	})
}
