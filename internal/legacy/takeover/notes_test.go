package takeover

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// TestNoteOnLocksIsNeeded: a migration without a note, or with one that cannot be read, is not taken for a harmless
// one.
func TestNoteOnLocksIsNeeded(t *testing.T) {
	t.Parallel()
	const up = "-- +goose Up\nALTER TABLE users ADD COLUMN nickname text;\n"
	for name, test := range map[string]struct{ text, want string }{
		"none":             {up, "no note on locks"},
		"another word":     {"-- lock: nothing\n" + up, "no note on locks"},
		"an empty one":     {"-- locks:\n" + up, "is no note on locks"},
		"no such mode":     {"-- locks: users EXCLUSIVE-ISH, adds column nickname\n" + up, "is no note on locks"},
		"no words":         {"-- locks: users ACCESS EXCLUSIVE\n" + up, "is no note on locks"},
		"another table":    {"-- locks: user ACCESS EXCLUSIVE, adds column nickname\n" + up, "is no note on locks"},
		"a contradiction":  {"-- locks: nothing\n-- locks: users SHARE, makes index x\n" + up, "name locks, but also say that it locks nothing"},
		"a wrong one more": {"-- locks: users SHARE, makes index x\n-- locks: perhaps\n" + up, "is no note on locks"},
	} {
		_, err := readPlans(fstest.MapFS{"00001_nickname.sql": {Data: []byte(test.text)}})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "00001_nickname.sql") {
			t.Errorf("%s: %v", name, err)
		}
	}
	plans, err := readPlans(fstest.MapFS{"00001_nickname.sql": {Data: []byte("-- locks: users ACCESS EXCLUSIVE, adds column nickname\n" + up)}})
	if err != nil || !slices.Equal(plans[0].notes, []note{{"ACCESS EXCLUSIVE", "adds column nickname"}}) {
		t.Errorf("%+v, %v", plans, err)
	}
}

// TestNotesOnLocksAreTrue runs each migration and compares its note with the locks on users that PostgreSQL granted. It
// ignores ACCESS SHARE and ROW SHARE, which readers take. It does not see the locks of a statement that commits by
// itself in a migration without a transaction, so such a note must be checked by eye.
func TestNotesOnLocksAreTrue(t *testing.T) {
	t.Parallel()
	plans, err := readPlans(migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", testenv.Existing(t).DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // the database is deleted too
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.GetDBVersion(t.Context()); err != nil { // creates its table
		t.Fatal(err)
	}
	// The event trigger sees the locks of each statement that changes the schema, also in migrations without a
	// transaction. The other trigger sees all locks of a migration with a transaction, at its end.
	if _, err := db.ExecContext(t.Context(), `
		CREATE SCHEMA seen;
		CREATE TABLE seen.locks (mode text);
		CREATE FUNCTION seen.note() RETURNS void LANGUAGE sql AS $$
			INSERT INTO seen.locks SELECT mode FROM pg_locks
			WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = 'public.users'::regclass
		$$;
		CREATE FUNCTION seen.statement() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM seen.note(); END $$;
		CREATE FUNCTION seen.migration() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM seen.note(); RETURN NULL; END $$;
		CREATE EVENT TRIGGER seen_statement ON ddl_command_end EXECUTE FUNCTION seen.statement();
		CREATE TRIGGER seen_migration AFTER INSERT ON goose_db_version EXECUTE FUNCTION seen.migration()`); err != nil {
		t.Fatal(err)
	}
	for _, p := range plans {
		if _, err := db.ExecContext(t.Context(), "TRUNCATE seen.locks"); err != nil {
			t.Fatal(err)
		}
		if _, err := provider.UpByOne(t.Context()); err != nil {
			t.Fatalf("%s: %v", p.file, err)
		}
		p.compareLocks(t, db)
	}
}

// compareLocks compares the notes with the locks that were seen since the last migration.
func (p *plan) compareLocks(t *testing.T, db *sql.DB) {
	t.Helper()
	var list string
	if err := db.QueryRowContext(t.Context(), "SELECT coalesce(string_agg(DISTINCT mode, ','), '') FROM seen.locks").Scan(&list); err != nil {
		t.Fatal(err)
	}
	seen := strings.Split(list, ",")
	pgName := strings.NewReplacer("ACCESS EXCLUSIVE", "AccessExclusiveLock", "SHARE ROW EXCLUSIVE", "ShareRowExclusiveLock",
		"SHARE UPDATE EXCLUSIVE", "ShareUpdateExclusiveLock", "ROW EXCLUSIVE", "RowExclusiveLock", "SHARE", "ShareLock")
	var noted []string
	for _, n := range p.notes {
		noted = append(noted, pgName.Replace(n.lock))
	}
	for _, mode := range seen {
		if mode != "" && mode != "AccessShareLock" && mode != "RowShareLock" && !slices.Contains(noted, mode) {
			t.Errorf("%s takes %s on users, and its notes do not say so", p.file, mode)
		}
	}
	for _, mode := range noted {
		// A statement that lets others work meanwhile ends its own transaction, so its locks were not seen.
		if beside := mode == "ShareUpdateExclusiveLock" || mode == "RowExclusiveLock"; !beside && !slices.Contains(seen, mode) {
			t.Errorf("%s notes %s on users, and did not take it", p.file, mode)
		}
	}
}
