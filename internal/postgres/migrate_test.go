package postgres_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func all(url string) postgres.Migrations {
	return postgres.Migrations{URL: url, FS: migrations.FS}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, url)
}

func mustExec(t *testing.T, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func strs(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	return testenv.Strings(t, conn, query, args...)
}

// existing loads the database of an older backend.
func existing(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	testenv.LoadExisting(t, conn.Config().ConnString())
}

// shapeOfUsers describes the table as PostgreSQL sees it, without Latchkey's additions.
func shapeOfUsers(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return strs(t, conn, `
		SELECT 'column ' || column_name || ' ' || data_type || ' ' || coalesce(character_maximum_length::text, '') || ' ' || is_nullable || ' ' || coalesce(column_default, '')
		FROM information_schema.columns WHERE table_name = 'users' AND column_name <> 'email_lookup'
		UNION ALL
		SELECT 'index ' || indexdef FROM pg_indexes WHERE tablename = 'users' AND indexname NOT IN ('users_email_lookup_key', 'users_created_at_id', 'users_email_beyond_ascii')
		UNION ALL
		SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal AND tgname NOT LIKE '%latchkey%'
		ORDER BY 1`)
}

func TestFirstMigrationYieldsTheExistingTable(t *testing.T) {
	t.Parallel()
	oldURL, newURL := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
	old, fresh := connect(t, oldURL), connect(t, newURL)
	existing(t, old)
	before := shapeOfUsers(t, old)
	if _, err := all(newURL).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := shapeOfUsers(t, fresh); !reflect.DeepEqual(got, before) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}
	if len(before) != 10+4+1 {
		t.Errorf("%d parts of the table compared: %v", len(before), before)
	}
}

func TestMigrateAnExistingDatabase(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	rows := func() []string {
		return strs(t, conn, "SELECT (to_jsonb(u) - 'email_lookup')::text FROM users u ORDER BY id")
	}
	shape, before := shapeOfUsers(t, conn), rows()
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := shapeOfUsers(t, conn); !reflect.DeepEqual(got, shape) {
		t.Errorf("the table changed: %v", got)
	}
	if got := rows(); !reflect.DeepEqual(got, before) {
		t.Errorf("rows changed: %v", got)
	}
	if got := strs(t, conn, "SELECT version || ' ' || dirty FROM schema_migrations"); !reflect.DeepEqual(got, []string{"1 false"}) {
		t.Errorf("schema_migrations: %v", got)
	}
	// Of two addresses that differ in letter case the older one holds the value.
	for email, lookup := range map[string]string{
		"Case.nora@Example.com": "case.nora@example.com", "case.nora@example.com": "", "Only.Upper.nora@Example.com": "only.upper.nora@example.com",
		"nora0@example.com": "nora0@example.com",
	} {
		if got := strs(t, conn, "SELECT coalesce(email_lookup, '') FROM users WHERE email = $1", email); !reflect.DeepEqual(got, []string{lookup}) {
			t.Errorf("%s: %v, want %q", email, got, lookup)
		}
	}
	if got := strs(t, conn, "SELECT email FROM users WHERE email_lookup IS NULL"); len(got) != 1 {
		t.Errorf("without a lookup value: %v", got)
	}
}

// TestDownAndUp takes all migrations back and applies them again; accounts stay.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	shape := shapeOfUsers(t, conn)
	for range 2 {
		applied, err := all(url).Up(t.Context(), nil)
		if err != nil || len(applied) < 6 {
			t.Fatalf("up: %v, %v", applied, err)
		}
		if again, err := all(url).Up(t.Context(), nil); err != nil || len(again) != 0 {
			t.Fatalf("up again: %v, %v", again, err)
		}
		for i := range applied {
			name, err := all(url).Down(t.Context())
			if err != nil || name != applied[len(applied)-1-i] {
				t.Fatalf("down: %s, %v", name, err)
			}
		}
		if name, err := all(url).Down(t.Context()); err != nil || name != "" {
			t.Fatalf("down at the bottom: %s, %v", name, err)
		}
		list, err := all(url).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Applied {
				t.Errorf("%s is still applied", m.Name)
			}
		}
		if got := shapeOfUsers(t, conn); !reflect.DeepEqual(got, shape) {
			t.Errorf("down left %v", got)
		}
		if got := strs(t, conn, "SELECT count(*)::text FROM users"); got[0] != "15" {
			t.Errorf("%s accounts", got[0])
		}
	}
}

// TestReplicasMigrateTogether: the migration outside a transaction waits for every older snapshot, also those of
// replicas that wait for their turn.
func TestReplicasMigrateTogether(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	const replicas = 5
	var wg sync.WaitGroup
	applied, errs := make([][]string, replicas), make([]error, replicas)
	for i := range replicas {
		wg.Go(func() { applied[i], errs[i] = all(url).Up(t.Context(), nil) })
	}
	wg.Wait()
	total := 0
	for i := range replicas {
		if errs[i] != nil {
			t.Error(errs[i])
		}
		total += len(applied[i])
	}
	if list, err := all(url).Status(t.Context()); err != nil || total != len(list) {
		t.Errorf("%d applied in all, there are %d: %v", total, len(list), err)
	}
}

// TestInterruptedMigration: work that was half done outside a transaction is done again.
func TestInterruptedMigration(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	// As a process left it that was killed while it built the index: the column exists, the index is not valid, and
	// there is no record that anything was done.
	mustExec(t, conn, "ALTER TABLE users ADD COLUMN email_lookup text")
	mustExec(t, conn, "CREATE UNIQUE INDEX users_email_lookup_key ON users (email_lookup)")
	mustExec(t, conn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_email_lookup_key'::regclass")
	mustExec(t, conn, "CREATE INDEX users_created_at_id ON users (created_at)")
	mustExec(t, conn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_created_at_id'::regclass")
	// Another process was killed half way through the rows.
	mustExec(t, conn, "UPDATE users SET email_lookup = email WHERE email LIKE 'nora%'")
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := strs(t, conn, "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'users_email_lookup_key'::regclass"); got[0] != "true" {
		t.Error("the index is still not valid")
	}
	if got := strs(t, conn, "SELECT count(email_lookup)::text FROM users"); got[0] != "14" {
		t.Errorf("%s of 15 have a value, want all but one variant", got[0])
	}
	if got := strs(t, conn, "SELECT indexdef FROM pg_indexes WHERE indexname = 'users_created_at_id'"); !strings.Contains(got[0], "(created_at, id)") {
		t.Errorf("the index for pages: %v", got)
	}
}

// TestPagesOfOneMoment: an import gives many accounts one time of creation. A page of them is read from the index,
// without a sort of all.
func TestPagesOfOneMoment(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name, created_at)
		SELECT 'u' || i, 'u' || i, 'x', 'F', 'L', '2026-01-01' FROM generate_series(1, 20000) i`)
	mustExec(t, conn, "ANALYZE users")
	plan := strings.Join(strs(t, conn, `EXPLAIN SELECT * FROM users
		WHERE (created_at, id) < ('2026-01-01'::timestamptz, '80000000-0000-0000-0000-000000000000'::uuid)
		ORDER BY created_at DESC, id DESC LIMIT 100`), "\n")
	if !strings.Contains(plan, "users_created_at_id") || strings.Contains(plan, "Sort") {
		t.Errorf("got\n%s", plan)
	}
}

// TestPagesOfAuditEvents: a page of one account, and one of all accounts from the middle of the table, reads rows in the
// order of an index and stops, whatever the size of the table.
func TestPagesOfAuditEvents(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, `INSERT INTO audit_events (created_at, kind, user_id, address, trace_id)
		SELECT '2026-01-01'::timestamptz + make_interval(secs => i / 3), 'logged_in', md5((i % 20)::text)::uuid, '', ''
		FROM generate_series(1, 40000) i`)
	mustExec(t, conn, "ANALYZE audit_events")
	plan := strings.Join(strs(t, conn, `EXPLAIN SELECT * FROM audit_events e
		WHERE (e.user_id, e.created_at, e.id) < (md5('7')::uuid, '2026-01-01 02:00'::timestamptz, 9::bigint)
			AND (e.user_id, e.created_at) >= (md5('7')::uuid, '2026-01-01'::timestamptz)
		ORDER BY e.user_id DESC, e.created_at DESC, e.id DESC LIMIT 100`), "\n")
	if !strings.Contains(plan, "Index Scan Backward using audit_events_user_time") || !strings.Contains(plan, "Index Cond: ((ROW(") || strings.Contains(plan, "Filter") {
		t.Errorf("one account:\n%s", plan)
	}
	// Few events have one time: these are sorted by id, and no others.
	plan = strings.Join(strs(t, conn, `EXPLAIN SELECT * FROM audit_events e
		WHERE (e.created_at, e.id) < ('2026-01-01 02:00'::timestamptz, 9::bigint) AND e.created_at >= '2026-01-01'
		ORDER BY e.created_at DESC, e.id DESC LIMIT 100`), "\n")
	if !strings.Contains(plan, "Incremental Sort") || !strings.Contains(plan, "Index Scan Backward using audit_events_created_at") {
		t.Errorf("all accounts:\n%s", plan)
	}
}

// TestLookupOfRowsThatOthersWrite: an older backend on the same table does not know the column, and must never fail
// because of it.
func TestLookupOfRowsThatOthersWrite(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	insert := "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, 'x', 'F', 'L')"
	lookup := func(email string) string {
		return strs(t, conn, "SELECT coalesce(email_lookup, '(none)') FROM users WHERE email = $1", email)[0]
	}
	for _, email := range []string{"First@Example.com", "FIRST@example.com", "first@example.com"} {
		mustExec(t, conn, insert, email)
	}
	if got := []string{lookup("First@Example.com"), lookup("FIRST@example.com"), lookup("first@example.com")}; !reflect.DeepEqual(got, []string{"first@example.com", "(none)", "(none)"}) {
		t.Errorf("got %v", got)
	}
	// A change of address moves the value, or gives it up if another account holds it.
	mustExec(t, conn, "UPDATE users SET email = 'Second@Example.com' WHERE email = 'First@Example.com'")
	if got := lookup("Second@Example.com"); got != "second@example.com" {
		t.Errorf("moved: %s", got)
	}
	mustExec(t, conn, "UPDATE users SET email = 'SECOND@example.com' WHERE email = 'first@example.com'")
	if got := lookup("SECOND@example.com"); got != "(none)" {
		t.Errorf("taken: %s", got)
	}
	mustExec(t, conn, "UPDATE users SET email = 'third@example.com' WHERE email = 'Second@Example.com'")
	mustExec(t, conn, "UPDATE users SET email = 'Third@example.com' WHERE email = 'SECOND@example.com'")
	if got := lookup("Third@example.com"); got != "(none)" {
		t.Errorf("taken by a changed one: %s", got)
	}
	// The same for one that held a value: anybody can use its former address now.
	mustExec(t, conn, insert, "fourth@example.com")
	mustExec(t, conn, "UPDATE users SET email = 'THIRD@example.com' WHERE email = 'fourth@example.com'")
	if got := lookup("THIRD@example.com"); got != "(none)" {
		t.Errorf("taken, and held another before: %s", got)
	}
	mustExec(t, conn, insert, "Fourth@example.com")
	if got := lookup("Fourth@example.com"); got != "fourth@example.com" {
		t.Errorf("given up: %s", got)
	}
	// Many rows in one statement, with duplicates among them.
	mustExec(t, conn, `INSERT INTO users (email, password_hash, first_name, last_name)
		SELECT CASE WHEN i % 2 = 0 THEN 'Bulk' ELSE 'bULK' END || (i / 2) || '@example.com', 'x', 'F', 'L' FROM generate_series(0, 199) AS i`)
	if got := strs(t, conn, "SELECT count(email_lookup)::text FROM users WHERE email ILIKE 'bulk%'"); got[0] != "100" {
		t.Errorf("%s of 200 have a value, want 100", got[0])
	}
	// The trigger does not count as a change of the account.
	if got := strs(t, conn, "SELECT count(*)::text FROM users WHERE email LIKE '%ulk%' AND updated_at <> created_at"); got[0] != "0" {
		t.Errorf("%s rows look updated", got[0])
	}
}

// TestLookupAtOnce: two programs insert variants of one address in open transactions. Neither insert fails, and one
// account holds the value.
func TestLookupAtOnce(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const writers = 8
	var wg sync.WaitGroup
	for i := range writers {
		other := connect(t, url)
		wg.Go(func() {
			email := strings.ToLower("Same@example.com")
			email = email[:i%4] + strings.ToUpper(email[i%4:i%4+1]) + email[i%4+1:] + strings.Repeat("x", i/4)
			_, err := other.Exec(t.Context(), "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, 'x', 'F', 'L')", email)
			if err != nil {
				t.Errorf("%s: %v", email, err)
			}
		})
	}
	wg.Wait()
	if got := strs(t, conn, "SELECT count(email_lookup)::text || ' of ' || count(*) FROM users"); got[0] != "2 of 8" {
		t.Errorf("%s have a value", got[0])
	}
}

// TestAppendRevocation: numbers only grow, begin again with each timeline, and are in the order of commits.
func TestAppendRevocation(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const appendOne = "SELECT latchkey_append_revocation('session', $1, $2, NULL, NULL, now() + interval '1 hour')"
	var first, second, head int64
	var tips [3]uuid.UUID
	read := func(into *uuid.UUID) {
		if err := conn.QueryRow(t.Context(), "SELECT seq, tip FROM ledger_head").Scan(&head, into); err != nil {
			t.Fatal(err)
		}
	}
	read(&tips[0])
	if head != 0 {
		t.Errorf("an empty ledger is at %d", head)
	}
	for i, into := range []*int64{&first, &second} {
		if err := conn.QueryRow(t.Context(), appendOne, uuid.New(), uuid.New()).Scan(into); err != nil {
			t.Fatal(err)
		}
		read(&tips[i+1])
		if head != *into {
			t.Errorf("head %d after %d", head, *into)
		}
	}
	if first>>40 != 1 || second <= first { // timeline 1
		t.Errorf("numbers %d, %d", first, second)
	}
	if tips[0] == tips[1] || tips[1] == tips[2] {
		t.Error("the tip did not change")
	}
	if got := strs(t, conn, "SELECT count(*)::text FROM revocations r JOIN ledger_head h ON h.seq = r.seq AND h.tip = r.tip"); got[0] != "1" {
		t.Error("the head is not its row's")
	}
	mustExec(t, conn, "UPDATE ledger_head SET seq = 5::bigint << 40") // as after four failovers
	var third int64
	if err := conn.QueryRow(t.Context(), appendOne, uuid.New(), uuid.New()).Scan(&third); err != nil || third != 5<<40+1 {
		t.Errorf("got %d, %v", third, err)
	}
	// A rollback leaves no gap.
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), appendOne, uuid.New(), uuid.New()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), appendOne, uuid.New(), uuid.New()).Scan(&third); err != nil || third != 5<<40+2 {
		t.Errorf("after a rollback: %d, %v", third, err)
	}
}

// TestMigrationsHaveLimits: a migration that cannot get its lock gives up, so that the whole service does not wait
// behind it. Limits in the operator's URL take precedence.
func TestMigrationsHaveLimits(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	probe := postgres.Migrations{FS: fstest.MapFS{"00001_probe.sql": {Data: []byte(`-- +goose Up
CREATE TABLE probe AS SELECT current_setting('lock_timeout') AS lock_timeout, current_setting('application_name') AS name;
-- +goose Down
DROP TABLE probe;
`)}}}
	conn := connect(t, url)
	for parameters, want := range map[string]string{"": "10s latchkey migrate", "&lock_timeout=3s": "3s latchkey migrate"} {
		probe.URL = url + parameters
		if _, err := probe.Up(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := strs(t, conn, "SELECT lock_timeout || ' ' || name FROM probe"); got[0] != want {
			t.Errorf("%q: %s, want %s", parameters, got[0], want)
		}
		if _, err := probe.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledMigration: the server continues the statement of a process that was killed, here the build of an index that
// waits for an old snapshot. The next process that migrates waits for that statement, and does not queue for the
// table's lock.
func TestKilledMigration(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn, old := connect(t, url), connect(t, url)
	existing(t, conn)
	mustExec(t, old, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	mustExec(t, old, "SELECT count(*) FROM pg_class")
	// As the killed process left it: its lock for the whole migration is gone, its connection is busy.
	orphan := connect(t, url)
	mustExec(t, orphan, "ALTER TABLE users ADD COLUMN email_lookup text")
	mustExec(t, orphan, "SELECT pg_advisory_lock($1)", int64(postgres.StatementLock))
	orphaned := make(chan error, 1)
	go func() {
		_, err := orphan.Exec(context.WithoutCancel(t.Context()), "CREATE UNIQUE INDEX CONCURRENTLY users_email_lookup_key ON users (email_lookup)")
		if err == nil {
			_, err = orphan.Exec(context.WithoutCancel(t.Context()), "SELECT pg_advisory_unlock($1)", int64(postgres.StatementLock))
		}
		orphaned <- err
	}()
	testenv.Eventually(t, time.Minute, "the index is being built", func() bool {
		return len(strs(t, conn, "SELECT phase FROM pg_stat_progress_create_index")) > 0
	})
	up := make(chan error, 1)
	go func() {
		_, err := all(url).Up(context.WithoutCancel(t.Context()), nil)
		up <- err
	}()
	testenv.Eventually(t, time.Minute, "it asks for the lock", func() bool {
		return len(strs(t, conn, `
			SELECT pid::text FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'latchkey migrate' AND query LIKE '%pg_try_advisory_lock%'`)) > 0
	})
	if waiting := strs(t, conn, "SELECT mode FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted"); len(waiting) != 0 {
		t.Errorf("waits for %v", waiting)
	}
	mustExec(t, old, "ROLLBACK")
	for what, done := range map[string]chan error{"the orphan": orphaned, "up": up} {
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := strs(t, conn, "SELECT count(email_lookup)::text FROM users"); got[0] != "14" {
		t.Errorf("%s of 15 have a value, want all but one variant", got[0])
	}
}

// TestEachMigration: a migration that could not get its lock in time is run again.
func TestEachMigration(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	mustExec(t, conn, "BEGIN")
	mustExec(t, conn, "SELECT FROM users")
	m := all(url)
	m.LockTimeout = 20 * time.Millisecond
	var begun []string
	refused := 0
	m.Each = func(_ context.Context, name string, run func() error) error {
		begun = append(begun, name)
		err := run()
		var pg *pgconn.PgError
		for ; errors.As(err, &pg) && pg.Code == "55P03"; err = run() {
			if refused++; refused == 3 {
				mustExec(t, conn, "ROLLBACK") //nolint:contextcheck // the test's own
			}
		}
		return err
	}
	applied, err := m.Up(t.Context(), nil)
	if err != nil || refused != 3 || !reflect.DeepEqual(applied, begun) {
		t.Errorf("%v, %d refused, applied %v, begun %v", err, refused, applied, begun)
	}
	again, err := m.Up(t.Context(), nil)
	if err != nil || len(again) != 0 {
		t.Errorf("again: %v, %v", again, err)
	}
}

// TestLookupBetweenTheTriggers: migration 2 is not one transaction. Between any two of its statements an older backend
// signs accounts up and changes their addresses.
func TestLookupBetweenTheTriggers(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	conn := connect(t, url)
	existing(t, conn)
	mustExec(t, conn, "CREATE SEQUENCE statements")
	mustExec(t, conn, `
		CREATE FUNCTION beside() RETURNS event_trigger LANGUAGE plpgsql AS $$
		DECLARE n bigint := nextval('statements');
		BEGIN
			INSERT INTO users (email, password_hash, first_name, last_name, created_at, updated_at)
				VALUES ('Moves' || n || '@Example.com', 'x', 'F', 'L', '2025-01-01', '2025-01-01'),
					('Stays' || n || '@Example.com', 'x', 'F', 'L', '2025-01-01', '2025-01-01');
			UPDATE users SET email = 'Moved' || n || '@Example.com' WHERE email = 'Moves' || n || '@Example.com';
		END $$`)
	mustExec(t, conn, "CREATE EVENT TRIGGER beside ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE INDEX', 'CREATE FUNCTION', 'CREATE TRIGGER') EXECUTE FUNCTION beside()")
	if _, err := all(url).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "DROP EVENT TRIGGER beside")
	if n := strs(t, conn, "SELECT count(*)::text FROM users WHERE email LIKE 'Moved%'"); len(n[0]) < 2 {
		t.Errorf("%s accounts moved meanwhile", n)
	}
	if wrong := strs(t, conn, "SELECT email || ' ' || coalesce(email_lookup, '') FROM users WHERE email_lookup IS DISTINCT FROM latchkey_email_lookup(email)"); len(wrong) != 1 {
		t.Errorf("want the one older variant only: %v", wrong)
	}
	if changed := strs(t, conn, "SELECT email FROM users WHERE email LIKE 'Stays%' AND updated_at <> '2025-01-01'"); len(changed) != 0 {
		t.Errorf("filling changed updated_at of %v", changed)
	}
}
