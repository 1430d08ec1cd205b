package testenv_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, conn *pgx.Conn, query string) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// makeThings is a migration. It leaves a connection open, which must not harm the template.
func makeThings(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE things (name text); INSERT INTO things VALUES ('from the template')")
	return err
}

// TestDatabaseIsPrivate: many tests each write to the same table of their own database.
func TestDatabaseIsPrivate(t *testing.T) {
	t.Parallel()
	hash := rand.Text() // with -count, templates of earlier runs exist
	var migrations atomic.Int64
	migrate := func(ctx context.Context, url string) error {
		migrations.Add(1)
		return makeThings(ctx, url)
	}
	t.Cleanup(func() {
		if n := migrations.Load(); n != 1 {
			t.Errorf("migrated %d times", n)
		}
	})
	for range 20 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.Database(t, migrate, hash))
			exec(t, conn, "INSERT INTO things VALUES ('own')")
			if n := count(t, conn, "SELECT count(*) FROM things"); n != 2 {
				t.Errorf("%d rows: the database is not this test's own", n)
			}
		})
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		url = testenv.Database(t, makeThings, rand.Text())
		// It stays open until the database is dropped.
		if _, err := pgx.Connect(t.Context(), url); err != nil {
			t.Error(err)
		}
	})
	if _, err := pgx.Connect(t.Context(), url); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("the database of a test that ended gives %v", err)
	}
}

func TestDatabaseDependsOnHash(t *testing.T) {
	t.Parallel()
	first := connect(t, testenv.Database(t, makeThings, rand.Text()))
	second := connect(t, testenv.Database(t, func(context.Context, string) error { return nil }, rand.Text()))
	const things = "SELECT count(*) FROM pg_tables WHERE tablename = 'things'"
	if count(t, first, things) != 1 || count(t, second, things) != 0 {
		t.Error("another hash got the same template")
	}
	if n := count(t, second, "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'template%'"); n != 0 {
		t.Errorf("%d connections to templates", n)
	}
}

func TestDatabaseSaysThatMigratingFailed(t *testing.T) {
	t.Parallel()
	fail := func(context.Context, string) error { return errors.New("no such column") }
	for range 2 {
		failed := try(t, func(t testing.TB) {
			t.Helper()
			testenv.Database(t, fail, "hash of a failure")
		})
		if !strings.Contains(failed, "migrate the template") {
			t.Errorf("failed with %q", failed)
		}
	}
}

func TestEmptyDatabase(t *testing.T) {
	t.Parallel()
	first, second := connect(t, testenv.EmptyDatabase(t)), connect(t, testenv.EmptyDatabase(t))
	exec(t, first, "CREATE TABLE things ()")
	const tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
	if n := count(t, second, tables); n != 0 {
		t.Errorf("%d tables in an empty database", n)
	}
	// Migrations depend on it.
	exec(t, second, "CREATE EXTENSION citext")
	if n := count(t, second, "SELECT ('A'::citext = 'a'::citext)::int"); n != 1 {
		t.Error("citext compares case")
	}
}
