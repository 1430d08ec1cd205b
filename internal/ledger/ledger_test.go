package ledger_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestFinalEverywhere: once Wait returns, every replica that trusts its memory refuses.
func TestFinalEverywhere(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	replicas := []*replica{start(t, url), start(t, url), start(t, url)}
	for i := range 60 {
		user, session, position := replicas[i%3].end(t)
		if err := replicas[i%3].Wait(t.Context(), position); err != nil {
			t.Fatal(err)
		}
		for n, r := range replicas {
			if r.Trusted() && !r.Refuses(user, session, position, "") {
				t.Fatalf("round %d: replica %d trusts its memory and accepts the session", i, n)
			}
			if r.Refuses(uuid.New(), session, position, "") {
				t.Fatal("a row bites where the account is another one")
			}
		}
	}
	if stats := replicas[0].Stats(); stats.TimedOut != 0 || stats.Waits != 20 || stats.Rows != 60 {
		t.Errorf("%+v", stats)
	}
}

// TestDeadReplica: a replica that does not follow costs the first revocations a lease, and is gone from the
// table then.
func TestDeadReplica(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := start(t, url)
	exec(t, pool, "INSERT INTO replicas (id, applied_seq, lease_ms) VALUES (gen_random_uuid(), 0, $1)", lease.Milliseconds())
	_, _, position := r.end(t)
	began := time.Now()
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < lease {
		t.Errorf("final after %s: the dead replica may have trusted its memory for %s", took, lease)
	}
	if !r.Trusted() {
		t.Error("the living one lost its trust")
	}
	testenv.Eventually(t, patience, "the dead replica is deleted", func() bool {
		return query[int](t, pool, "SELECT count(*) FROM replicas") == 1
	})
	_, _, position = r.end(t)
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	if stats := r.Stats(); stats.TimedOut != 1 {
		t.Errorf("%d revocations waited a lease, want 1", stats.TimedOut)
	}
}

// TestExpelledReplicaJoinsAnew: a replica that others gave up has no trust until it has a new row.
func TestExpelledReplicaJoinsAnew(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := start(t, url)
	_, _, position := r.end(t) // the new row must tell of it although no other comes
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"UPDATE replicas SET leaving_since = now()", "DELETE FROM replicas"} {
		former := query[uuid.UUID](t, pool, "SELECT id FROM replicas")
		exec(t, pool, change)
		testenv.Eventually(t, patience, "the replica has a new row", func() bool {
			return query[int](t, pool, "SELECT count(*) FROM replicas WHERE id <> $1 AND applied_seq >= (SELECT seq FROM ledger_head)", former) == 1
		})
		r.trusted(t)
	}
	r.leave()
	if r.Trusted() {
		t.Error("trusts its memory after it left")
	}
	if n := query[int](t, pool, "SELECT count(*) FROM replicas"); n != 0 {
		t.Errorf("%d rows of replicas are left behind", n)
	}
}

// TestWaitWithoutPostgres: the wait ends by the clock, and trust as well.
func TestWaitWithoutPostgres(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	proxy := testenv.NewProxy(t, url)
	other := start(t, url)
	r := start(t, proxy.URL())
	_, _, position := r.end(t)
	proxy.Cut()
	began := time.Now()
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < lease || took > lease+patience/2 {
		t.Errorf("waited %s", took)
	}
	testenv.Eventually(t, patience, "trust has ended without PostgreSQL", func() bool { return !r.Trusted() })
	if !other.Trusted() {
		t.Error("the other replica lost its trust")
	}
	proxy.Restore()
	r.trusted(t)
}

// TestDeaf: without its LISTEN connection a replica finds rows by reading.
func TestDeaf(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	a, b := start(t, url), start(t, url)
	for range 5 {
		exec(t, pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name IN ('latchkey listen', 'latchkey ledger')`)
		user, session, position := a.end(t)
		if err := a.Wait(t.Context(), position); err != nil {
			t.Fatal(err)
		}
		if b.Trusted() && !b.Refuses(user, session, position, "") {
			t.Fatal("accepted after it was final")
		}
	}
	b.trusted(t)
}

// TestOtherHistory: what was applied of a history that is no more is forgotten.
func TestOtherHistory(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]string{
		"an older state": "DELETE FROM revocations; UPDATE ledger_head SET seq = 1, tip = gen_random_uuid()",
		"a number that was used again": `UPDATE revocations SET tip = gen_random_uuid(), session_id = gen_random_uuid();
			UPDATE ledger_head SET tip = (SELECT tip FROM revocations ORDER BY seq DESC LIMIT 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Migrated(t)
			pool := connect(t, url)
			r := start(t, url)
			user, session, position := r.end(t)
			if err := r.Wait(t.Context(), position); err != nil {
				t.Fatal(err)
			}
			resets := r.follower.timesReset()
			exec(t, pool, restore)
			testenv.Eventually(t, patience, "the replica begins anew", func() bool {
				return r.follower.timesReset() > resets && !r.Refuses(user, session, 0, "")
			})
			r.trusted(t)
		})
	}
}

// TestRefusesWhileReadingAnew: a call that asked for trust before the memory is read anew looks into it a moment
// later, and must find what was final all the time. Nor may a watcher take a part of the rows for all of
// them, or a revoker the position of a former history for one of this.
func TestRefusesWhileReadingAnew(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := start(t, url)
	user, session, _ := r.end(t)
	_, _, position := r.end(t)
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 100)
	r.follower.mu.Lock()
	r.follower.during = func() {
		if !r.Refuses(user, session, 0, "") {
			read <- "accepted a session that was ended before and after"
		}
		if got, err := r.ReadAfter(ledger.Position{}, 10); err != nil || got.Complete {
			read <- "a watcher is told that there is nothing"
		}
		if applied := r.Stats().Applied; applied != 0 {
			read <- "applied up to a position of the former history"
		}
		read <- ""
	}
	r.follower.mu.Unlock()
	exec(t, pool, `UPDATE revocations SET tip = gen_random_uuid() WHERE seq = (SELECT seq FROM ledger_head);
		UPDATE ledger_head SET tip = (SELECT tip FROM revocations ORDER BY seq DESC LIMIT 1)`)
	for wrong := range read {
		if wrong == "" {
			break
		}
		t.Error(wrong)
	}
	testenv.Eventually(t, patience, "all rows are read", func() bool {
		got, err := r.ReadAfter(ledger.Position{}, 10)
		return err == nil && got.Complete && len(got.Rows) == 2
	})
	r.trusted(t)
}

// TestUnknownKind: a row of a newer version takes the trust away, and holds nobody up.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := open(t, url, nil)
	trusted := make(chan bool, 1)
	r.follower.applying = func(*latchkeyv1.Revocation) { trusted <- r.Trusted() }
	r.run(t).trusted(t)
	exec(t, pool, "ALTER TABLE revocations DROP CONSTRAINT revocations_kind_check")
	position := query[int64](t, pool, "SELECT latchkey_append_revocation('device', gen_random_uuid(), NULL, NULL, NULL, NULL)")
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	if <-trusted {
		t.Error("trusted its memory when the row was about to count as applied")
	}
	if r.Trusted() {
		t.Error("trusts its memory though it did not understand a row")
	}
	testenv.Eventually(t, patience, "the log says what to do", func() bool {
		return strings.Contains(string(r.logs.Bytes()), "update this replica")
	})
	if stats := r.Stats(); stats.TimedOut != 0 {
		t.Error("the revocation waited a lease for a replica that has no trust")
	}
}

func TestWrongClock(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	clock := testenv.NewClock(time.Now().Add(40 * time.Second))
	r := open(t, url, func(cfg *ledger.Config) { cfg.Now = clock.Now }).run(t)
	testenv.Eventually(t, patience, "the log tells of the clock", func() bool {
		return strings.Contains(string(r.logs.Bytes()), "wall clock")
	})
	if r.ClockRight() {
		t.Error("the clock passes for right")
	}
	if r.Trusted() {
		t.Error("trusts its memory by a clock that is wrong")
	}
	clock.Set(time.Now())
	r.trusted(t)
	if !r.ClockRight() {
		t.Error("the clock still passes for wrong")
	}
}

// TestBatch: many ends at once share flushes, and each has its row and its event.
func TestBatch(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := start(t, url)
	const n = 300
	var all sync.WaitGroup
	failed := make(chan error, n)
	for i := range n {
		all.Go(func() {
			position, err := r.Append(t.Context(), ledger.SessionEnd{
				SessionID: uuid.New(), UserID: uuid.New(),
				Time: time.Now(), Kind: "logged_out", TraceID: strconv.Itoa(i),
			})
			if err == nil {
				err = r.Wait(t.Context(), position)
			}
			failed <- err
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
	stats := r.Stats()
	if stats.Appends != n || stats.Flushes >= n/2 {
		t.Errorf("%d rows took %d flushes", stats.Appends, stats.Flushes)
	}
	rows := query[int](t, pool, "SELECT count(DISTINCT session_id) FROM revocations")
	events := query[int](t, pool, "SELECT count(DISTINCT trace_id) FROM audit_events")
	if rows != n || events != n {
		t.Errorf("%d rows, %d events", rows, events)
	}
}

// TestHangingUp: an append whose caller is gone goes on.
func TestHangingUp(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	r := start(t, url)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // ended below when all is well
	if _, err := tx.Exec(t.Context(), "UPDATE ledger_head SET seq = seq"); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	session := uuid.New()
	go func() {
		_, err := r.Append(ctx, ledger.SessionEnd{SessionID: session, UserID: uuid.New(), Time: time.Now(), Kind: "logged_out"})
		answer <- err
	}()
	hangUp()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the row is there", func() bool {
		return query[int](t, pool, "SELECT count(*) FROM revocations WHERE session_id = $1", session) == 1
	})
}

// TestOldRowsAreNotHeld: what can reach no token is not read into memory, and a replica that starts goes on
// after it.
func TestOldRowsAreNotHeld(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	pool := connect(t, url)
	first := start(t, url)
	user, session, position := first.end(t)
	exec(t, pool, "UPDATE revocations SET created_at = now() - interval '18 minutes'")
	first.leave()
	r := start(t, url)
	if r.Refuses(user, session, position, "") || r.Stats().Rows != 0 || r.Stats().Applied != position {
		t.Errorf("%+v", r.Stats())
	}
	read, err := r.ReadAfter(ledger.Position{}, 10)
	if err != nil || !read.Complete || len(read.Rows) != 0 || read.Head.Seq != position {
		t.Fatalf("%+v, %v", read, err)
	}
	user, session, position = r.end(t)
	if err := r.Wait(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	if !r.Refuses(user, session, position, "") {
		t.Error("accepted")
	}
	after, err := r.ReadAfter(read.Next, 10)
	if err != nil || len(after.Rows) != 1 || after.Rows[0].GetKind() != latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION {
		t.Fatalf("%+v, %v", after, err)
	}
}

// TestKeptForTheLongestSession: a session that another replica began may live longer than this one's settings
// say.
func TestKeptForTheLongestSession(t *testing.T) {
	t.Parallel()
	url := testenv.Migrated(t)
	r := start(t, url) // whose sessions live for an hour
	_, session, _ := r.end(t)
	if n := query[int](t, connect(t, url), `SELECT count(*) FROM revocations, ledger_head
		WHERE session_id = $1 AND keep_until >= created_at + session_life + interval '1 hour' AND session_life > interval '700 hours'`, session); n != 1 {
		t.Error("the row ends before the session may")
	}
}
