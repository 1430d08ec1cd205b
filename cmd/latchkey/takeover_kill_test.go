package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// shape returns the result of a takeover as lines, without random values and numbers of transactions.
func shape(t *testing.T, url string) []string {
	t.Helper()
	const lines = `
		SELECT 'relation ' || relname || ' ' || relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '') || ' ' || ordinal_position
			FROM information_schema.columns WHERE table_schema = 'public'
		UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) || ' ' || indisvalid::text || indisready::text FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
		UNION ALL SELECT 'constraint ' || conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
		UNION ALL SELECT 'version ' || version_id || is_applied::text FROM goose_db_version
		UNION ALL SELECT 'outbox ' || line || ' ' || version FROM river_migration
		UNION ALL SELECT 'old version ' || version || dirty::text FROM schema_migrations
		UNION ALL SELECT 'user ' || to_jsonb(u)::text FROM users u
		ORDER BY 1`
	return queryStrings(t, url, lines)
}

// oldAccounts makes the same accounts in every database, more than three batches of them.
func oldAccounts(t *testing.T) (url string, settings map[string]string) {
	t.Helper()
	old, settings := oldStores(t)
	conn := connectTest(t, old.DatabaseURL)
	mustExec(t, conn, `
		INSERT INTO users (id, email, password_hash, first_name, last_name, created_at, updated_at)
		SELECT md5(i::text)::uuid, CASE WHEN i % 100 = 0 THEN 'USER' || (i - 1) ELSE 'user' || i END || '@example.com', '$argon2id$', 'F', 'L',
			timestamptz '2025-01-01' + i * interval '1 second', '2025-06-01'
		FROM generate_series(1, 3500) AS i`)
	settings["LATCHKEY_LOG_LEVEL"] = "info"
	return old.DatabaseURL, settings
}

func uninterrupted(t *testing.T) []string {
	t.Helper()
	url, settings := oldAccounts(t)
	settings["LATCHKEY_LOG_LEVEL"] = "error"
	takeoverApply(t, settings)
	return shape(t, url)
}

// kill ends a child like an operator's `kill -9`, or a machine that runs out of memory.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	p.exit(t)
}

func (p *process) waitFor(t *testing.T, text string) {
	t.Helper()
	testenv.Eventually(t, patience, text, func() bool {
		select {
		case <-p.done:
			return true
		default:
			return strings.Contains(p.text(&p.stderr), text)
		}
	})
}

// TestTakeoverKilledAtEachMigration: a child is killed as soon as it reports that a migration begins, the next one when
// it reports that it ends. After the last child, the database is the same as without interruptions.
func TestTakeoverKilledAtEachMigration(t *testing.T) {
	t.Parallel()
	want := uninterrupted(t)
	url, settings := oldAccounts(t)
	kills := 0
	for ; kills < 100; kills++ {
		p := start(t, pairs(settings), "takeover", "apply")
		p.waitFor(t, []string{`"migration begins"`, `"migration ends"`}[kills%2])
		if !strings.Contains(p.text(&p.stderr), `"migration begins"`) {
			if code := p.exit(t); code != exitDone {
				t.Fatalf("exit %d after %d kills:\n%s", code, kills, p.text(&p.stderr))
			}
			break
		}
		p.kill(t)
	}
	t.Logf("%d kills", kills)
	if kills < 4 {
		t.Errorf("only %d kills", kills)
	}
	same(t, "the end", shape(t, url), want)
	database := picture(t, url)
	takeoverApply(t, settings)
	same(t, "what another apply found", picture(t, url), database)
}

// TestTakeoverStoppedAtEachMigration: the same before each migration and after it, independent of the speed of the
// machine.
func TestTakeoverStoppedAtEachMigration(t *testing.T) {
	t.Parallel()
	want := uninterrupted(t)
	url, settings := oldAccounts(t)
	settings["LATCHKEY_LOG_LEVEL"] = "error"
	stop := errors.New("killed")
	stops := 0
	for ; stops < 100; stops++ {
		m := postgres.Migrations{URL: url, FS: migrations.FS}
		m.Each = func(_ context.Context, _ string, run func() error) error {
			if stops%2 == 1 {
				if err := run(); err != nil {
					return err
				}
			}
			return stop
		}
		_, err := m.Up(t.Context(), nil)
		if err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		// The check shows how apply sees this state: half-done work is no problem.
		if code, report := takeoverCheck(t, settings); code == exitFailed || len(report.Problems) > 0 {
			t.Errorf("after %d stops: exit %d, %+v", stops, code, report.Problems)
		}
	}
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || stops != 2*len(files) {
		t.Errorf("%d stops at %d migrations: %v", stops, len(files), err)
	}
	takeoverApply(t, settings)
	same(t, "the end", shape(t, url), want)
}

// heldUp waits until the child's statement waits for a lock of this kind. Any other kind may be a short wait in another
// place: the analysis of a table that autovacuum has begun holds up the statements before the fill too.
func heldUp(t *testing.T, url, lock string) {
	t.Helper()
	conn := connectTest(t, url)
	testenv.Eventually(t, patience, "the migration waits for a lock: "+lock, func() bool {
		var n int
		err := conn.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'latchkey migrate' AND wait_event_type = 'Lock' AND wait_event = $1`, lock).Scan(&n)
		return err == nil && n > 0
	})
}

// stop is a way to block an apply in one place, and the kind of lock for which it waits there.
type stop struct{ hold, release, lock string }

// stops returns the places. A lock on a row would already block the new column, so a trigger that waits blocks the fill
// in its third batch.
func stops() map[string]stop {
	return map[string]stop{
		"fill": {
			`CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END';
			CREATE TRIGGER hold_up BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.email = 'user2501@example.com') EXECUTE FUNCTION hold_up();
			SELECT pg_advisory_lock(42)`,
			"SELECT pg_advisory_unlock(42)",
			"advisory",
		},
		// The index waits for every snapshot.
		"index": {"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM schema_migrations", "ROLLBACK", "virtualxid"},
		// Any lock on users blocks the new column.
		"column": {"BEGIN; SELECT count(*) FROM users", "ROLLBACK", "relation"},
	}
}

// TestTakeoverKilledInTheMiddle: in the fill, in the build of the index, and before the column. The server continues
// the statement of a client that was killed, unless it ends the statement as well. The test does both.
func TestTakeoverKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	want := uninterrupted(t)
	for name, at := range stops() {
		for _, orphan := range []string{"ended", "goes on"} {
			t.Run(name+", statement "+orphan, func(t *testing.T) {
				t.Parallel()
				url, settings := oldAccounts(t)
				conn := connectTest(t, url)
				mustExec(t, conn, at.hold, pgx.QueryExecModeSimpleProtocol)
				p := start(t, pairs(settings), "takeover", "apply")
				heldUp(t, url, at.lock)
				p.kill(t)
				if orphan == "ended" {
					queryStrings(t, url, "SELECT pg_terminate_backend(pid, 10000)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'latchkey migrate'")
					wantHalfDone(t, url, name)
				}
				again := start(t, pairs(settings), "takeover", "apply")
				if orphan == "goes on" && name == "index" {
					again.waitFor(t, "waiting: another latchkey")
				}
				mustExec(t, conn, at.release)
				if code := again.exit(t); code != exitDone {
					t.Fatalf("exit %d:\n%s", code, again.text(&again.stderr))
				}
				mustExec(t, conn, "DROP FUNCTION IF EXISTS hold_up() CASCADE")
				same(t, "the end", shape(t, url), want)
			})
		}
	}
}

// wantHalfDone checks that an apply that was ended in this place had reached it.
func wantHalfDone(t *testing.T, url, place string) {
	t.Helper()
	query, want := "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email_lookup'", "0"
	switch place {
	case "index":
		query, want = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('users_email_lookup_key')", "false"
	case "fill":
		// Two batches of 1,000, without the twenty accounts that share an address.
		query, want = "SELECT count(email_lookup)::text FROM users", "1980"
	}
	if got := queryStrings(t, url, query); len(got) != 1 || got[0] != want {
		t.Errorf("killed in the %s: %s gives %v, want %s", place, query, got, want)
	}
}

// TestTakeoverWaitsInShortTurns: while somebody holds a lock on users, apply tries again and again and names the
// holder, and others do not wait behind it for long. SIGTERM ends it in order.
func TestTakeoverWaitsInShortTurns(t *testing.T) {
	t.Parallel()
	url, settings := oldAccounts(t)
	conn := connectTest(t, url)
	mustExec(t, conn, "SET application_name = 'forgotten report'")
	mustExec(t, conn, "BEGIN")
	mustExec(t, conn, "SELECT FROM users")
	p := start(t, pairs(settings), "takeover", "apply")
	heldUp(t, url, "relation")
	// New queries wait behind it.
	began := time.Now()
	queryStrings(t, url, "SELECT email FROM users LIMIT 1")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("another's query waited %s", took)
	}
	p.waitFor(t, "forgotten report")
	if text := p.text(&p.stderr); !strings.Contains(text, "holds a lock on users") {
		t.Errorf("log: %s", text)
	}
	_, report := takeoverCheck(t, settings)
	if len(report.Blockers) != 1 || report.Blockers[0].Application != "forgotten report" || !report.Blockers[0].LocksUsers || report.Blockers[0].PID == 0 {
		t.Errorf("blockers %+v", report.Blockers)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != exitFailed || !strings.Contains(p.text(&p.stderr), "run the same command again") {
		t.Errorf("exit %d:\n%s", code, p.text(&p.stderr))
	}
	mustExec(t, conn, "ROLLBACK")
	settings["LATCHKEY_LOG_LEVEL"] = "error"
	takeoverApply(t, settings)
}

// TestTakeoverTogether: several run at once, and a service starts beside them.
func TestTakeoverTogether(t *testing.T) {
	t.Parallel()
	want := uninterrupted(t)
	url, settings := oldAccounts(t)
	settings["LATCHKEY_LOG_LEVEL"] = "error"
	var wg sync.WaitGroup
	for _, args := range [][]string{{"takeover", "apply"}, {"takeover", "apply"}, {"migrate", "up"}} {
		p := start(t, pairs(settings), args...)
		wg.Go(func() {
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code != exitDone {
				t.Errorf("%v: exit %d:\n%s", args, code, p.text(&p.stderr))
			}
		})
	}
	wg.Wait()
	same(t, "the end", shape(t, url), want)
}
