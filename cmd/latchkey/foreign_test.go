package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// catalog returns everything that is in a database: tables, columns, indexes, triggers, functions, and the number of
// rows.
func catalog(t *testing.T, url string) []string {
	t.Helper()
	return queryStrings(t, url, `
		SELECT 'relation ' || c.oid::regclass || ' ' || c.relkind::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		UNION ALL
		SELECT 'column ' || attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) || attnotnull::text
		FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i')
		UNION ALL
		SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
		UNION ALL
		SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL
		SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL
		SELECT 'type ' || typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
		ORDER BY 1`)
}

func runSQL(t *testing.T, url, statements string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // the test's own
	if _, err := conn.Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// shop is a table of an ordinary application.
const shop = `
	CREATE TABLE users (id bigserial PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now());
	CREATE TABLE orders (id bigserial PRIMARY KEY, user_id bigint REFERENCES users);
	INSERT INTO users (email) VALUES ('ada@example.com');`

const nearlyOurs = `
	CREATE TABLE users (
		id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255) NOT NULL UNIQUE, password_hash text NOT NULL,
		first_name varchar(100) NOT NULL, last_name varchar(100) NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
		updated_at timestamptz NOT NULL DEFAULT now(), last_login_at timestamptz, is_active boolean NOT NULL DEFAULT true,
		is_verified boolean NOT NULL DEFAULT false, tenant text NOT NULL
	);`

// TestForeignDatabase: no command touches the database of another program, whichever of Latchkey's names it uses.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ schema, want string }{
		"users of another shape":        {shop, "users.id is bigint"},
		"users that need a tenant":      {nearlyOurs, "users.tenant is NOT NULL without a default"},
		"an address of another type":    {strings.ReplaceAll(strings.ReplaceAll(nearlyOurs, ", tenant text NOT NULL", ""), "email varchar(255)", "email varchar(100)"), "users.email is character varying(100)"},
		"users is a view":               {"CREATE TABLE people (id uuid); CREATE VIEW users AS SELECT * FROM people", "no ordinary table"},
		"users elsewhere":               {"CREATE SCHEMA app;" + strings.ReplaceAll(nearlyOurs, "TABLE users", "TABLE app.users") + "ALTER DATABASE %s SET search_path = public, app", `users is in schema "app"`},
		"a trail without users":         {"CREATE TABLE audit_events (id int)", "a table audit_events and no table users"},
		"migrations of another's goose": {"CREATE TABLE goose_db_version (id serial, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp); INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (7, true)", "goose_db_version says"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := serveSettings(t)
			url := settings["LATCHKEY_DATABASE_URL"]
			database := queryStrings(t, url, "SELECT current_database()::text")[0]
			runSQL(t, url, strings.ReplaceAll(test.schema, "%s", database))
			before := catalog(t, url)
			withoutMigrate := append(pairs(settings), "LATCHKEY_MIGRATE=false")
			for _, command := range []struct {
				args    []string
				environ []string
			}{
				{[]string{"serve"}, pairs(settings)},
				{[]string{"serve"}, withoutMigrate},
				{[]string{"migrate", "up"}, pairs(settings)},
				{[]string{"migrate", "status"}, pairs(settings)},
				{[]string{"migrate", "down", "--yes"}, pairs(settings)},
				{[]string{"keys", "list"}, pairs(settings)},
				{[]string{"keys", "rotate"}, pairs(settings)},
				{[]string{"users", "export"}, pairs(settings)},
				{[]string{"takeover", "apply"}, pairs(settings)},
			} {
				err := run(t.Context(), command.args, command.environ, io.Discard)
				if exitCode(err) != exitFailed {
					t.Errorf("%v: %v", command.args, err)
				} else if command.args[0] != "takeover" && (!strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "belongs to another program")) {
					t.Errorf("%v says: %v", command.args, err)
				}
				if after := catalog(t, url); !slices.Equal(after, before) {
					t.Fatalf("%v changed the database:\n%s", command.args, strings.Join(after, "\n"))
				}
			}
		})
	}
}

// TestDevLeavesOtherStoresAlone: DATABASE_URL and REDIS_URL of the shell are another application's.
func TestDevLeavesOtherStoresAlone(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	runSQL(t, url, shop)
	before := catalog(t, url)
	redisURL := testenv.Redis(t)
	p := start(t, append(devSettings(devFolder(t)), "DATABASE_URL="+url, "REDIS_URL="+redisURL), "dev")
	p.addrs(t)
	if after := catalog(t, url); !slices.Equal(after, before) {
		t.Errorf("dev changed the application's database:\n%s", strings.Join(after, "\n"))
	}
	opts, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	defer client.Close() //nolint:errcheck // the test's own
	if keys, err := client.DBSize(t.Context()).Result(); err != nil || keys > 0 {
		t.Errorf("%d keys in the application's Redis (%v)", keys, err)
	}
}

// takeAllBack runs migrate down until nothing is left, and returns its output.
func takeAllBack(t *testing.T, url string) string {
	t.Helper()
	var out bytes.Buffer
	for !strings.Contains(out.String(), "took back 00001_users.sql") {
		if err := run(t.Context(), []string{"migrate", "down", "--yes"}, []string{"LATCHKEY_DATABASE_URL=" + url}, &out); err != nil {
			t.Fatalf("%v after\n%s", err, out.String())
		}
	}
	return out.String()
}

// TestMigrateDownTakesBack: after all migrations are taken back, a database is as it was before.
func TestMigrateDownTakesBack(t *testing.T) {
	t.Parallel()
	up := func(t *testing.T, url string) {
		t.Helper()
		if err := run(t.Context(), []string{"migrate", "up"}, []string{"LATCHKEY_DATABASE_URL=" + url}, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	same := func(t *testing.T, url string, before []string) {
		t.Helper()
		if after := catalog(t, url); !slices.Equal(after, before) {
			t.Errorf("was\n%s\nis\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
	t.Run("its own database", func(t *testing.T) {
		t.Parallel()
		url := testenv.EmptyDatabase(t)
		before := catalog(t, url)
		up(t, url)
		takeAllBack(t, url)
		same(t, url, before)
		up(t, url) // the migrations can be applied again
	})
	t.Run("accounts stay", func(t *testing.T) {
		t.Parallel()
		url := testenv.EmptyDatabase(t)
		up(t, url)
		runSQL(t, url, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ('ada@example.com', 'x', 'A', 'L')")
		if text := takeAllBack(t, url); !strings.Contains(text, "users stays") {
			t.Errorf("nobody is told:\n%s", text)
		}
		if got := queryStrings(t, url, "SELECT email FROM users"); len(got) != 1 {
			t.Errorf("accounts: %v", got)
		}
		runSQL(t, url, "UPDATE users SET first_name = 'Ada'")
		up(t, url)
	})
	t.Run("an older backend's", func(t *testing.T) {
		t.Parallel()
		url := testenv.EmptyDatabase(t)
		testenv.LoadExisting(t, url)
		before := catalog(t, url)
		up(t, url)
		takeAllBack(t, url)
		same(t, url, before)
	})
	// An earlier dev found an application's database in DATABASE_URL and left its tables there.
	t.Run("another program's", func(t *testing.T) {
		t.Parallel()
		url := testenv.EmptyDatabase(t)
		runSQL(t, url, shop+"CREATE INDEX idx_users_email ON users (email); CREATE TABLE river_job (id bigserial)")
		before := catalog(t, url)
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		db := stdlib.OpenDB(*cfg)
		defer db.Close() //nolint:errcheck // the test's own
		provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Up(t.Context()); err == nil {
			t.Fatal("the migrations ran on a table that is not ours")
		}
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context()) //nolint:errcheck // the test's own
		if _, err := conn.Exec(t.Context(), "UPDATE users SET email = 'a@example.com'"); err == nil {
			t.Fatal("the application still works: this is not the case that was seen")
		}
		err = run(t.Context(), []string{"migrate", "up"}, []string{"LATCHKEY_DATABASE_URL=" + url}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "`latchkey migrate down`, run until nothing is left") {
			t.Errorf("up says: %v", err)
		}
		takeAllBack(t, url)
		same(t, url, before)
		if _, err := conn.Exec(t.Context(), "UPDATE users SET email = 'a@example.com'"); err != nil {
			t.Error(err)
		}
	})
}

// TestMigrateDownAsks: nothing is taken back without a yes, nor while a replica runs.
func TestMigrateDownAsks(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	url := settings["LATCHKEY_DATABASE_URL"]
	p := start(t, pairs(settings), "serve")
	p.addrs(t)
	before := catalog(t, url)
	err := run(t.Context(), []string{"migrate", "down", "--yes"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "replicas of Latchkey are running") {
		t.Errorf("under a replica: %v", err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	testenv.Eventually(t, patience, "PostgreSQL sees that it is gone", func() bool {
		return len(queryStrings(t, url, "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'latchkey%'")) == 0
	})
	cfg := &config.Config{DatabaseURL: config.URL(url)}
	for answer, code := range map[string]int{"": exitUsage, "no\n": exitFailed, "y\n": exitFailed} {
		var question bytes.Buffer
		if err := migrateDown(t.Context(), cfg, false, strings.NewReader(answer), &question, io.Discard); exitCode(err) != code || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%q: %v", answer, err)
		}
		if !strings.Contains(question.String(), "deletes what is in its tables") {
			t.Errorf("asked: %s", question.String())
		}
	}
	if after := catalog(t, url); !slices.Equal(after, before) {
		t.Error("something was changed")
	}
	var out bytes.Buffer
	if err := migrateDown(t.Context(), cfg, false, strings.NewReader("yes\n"), io.Discard, &out); err != nil || !strings.HasPrefix(out.String(), "took back 000") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
