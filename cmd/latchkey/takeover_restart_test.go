package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestTakeoverBreaksCachedStatements: the plan's statement about prepared SELECT * statements is true. A client that
// keeps them fails on its open connections, one that names its columns does not, and a new connection is enough.
func TestTakeoverBreaksCachedStatements(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	_, plan, _ := takeoverRun(t, settings, "check")
	if !strings.Contains(plan, "RESTART as soon as 00002_email_lookup.sql has begun (apply says when): the Rust backend") {
		t.Errorf("the plan does not say so:\n%s", plan)
	}
	const all, named = "SELECT * FROM users WHERE email = $1", "SELECT id, email, password_hash FROM users WHERE email = $1"
	// Both ways: like sqlx, which keeps a prepared statement with its connection, and with pgx's own cache.
	keeper, cached := connectTest(t, old.DatabaseURL), connectTest(t, old.DatabaseURL)
	for name, statement := range map[string]string{"all": all, "named": named} {
		if _, err := keeper.Prepare(t.Context(), name, statement); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, keeper, "all", "nora0@example.com")
	mustExec(t, keeper, "named", "nora0@example.com")
	mustExec(t, cached, all, "nora0@example.com")
	mustExec(t, cached, named, "nora0@example.com")
	takeoverApply(t, settings)

	broken := func(err error) bool {
		var pg *pgconn.PgError
		return errors.As(err, &pg) && pg.Code == "0A000" && strings.Contains(pg.Message, "cached plan must not change result type")
	}
	for range 3 {
		if _, err := keeper.Exec(t.Context(), "all", "nora0@example.com"); !broken(err) {
			t.Errorf("a kept statement: %v", err)
		}
	}
	if _, err := cached.Exec(t.Context(), all, "nora0@example.com"); !broken(err) {
		t.Errorf("a cached statement, the first time: %v", err)
	}
	mustExec(t, cached, all, "nora0@example.com") // pgx has prepared it anew
	mustExec(t, keeper, "named", "nora0@example.com")
	mustExec(t, cached, named, "nora0@example.com")
	mustExec(t, connectTest(t, old.DatabaseURL), all, "nora0@example.com")
	if _, plan, _ = takeoverRun(t, settings, "check"); strings.Contains(plan, "RESTART") {
		t.Errorf("it is still asked for:\n%s", plan)
	}
}
