package main

import (
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestTakeoverOfAnotherDatabase: for a database that no older backend has used, check reports what it found and what
// would be right, and no number of accounts that it has not read.
func TestTakeoverOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sql  string
		says []string
	}{
		"empty":     {"", []string{"there is no table here", "is empty", "the older backend's database in LATCHKEY_DATABASE_URL"}},
		"no users":  {"CREATE TABLE orders (id int); CREATE TABLE items (id int)", []string{"there is no table users.", "Tables and views: items, orders", "the older backend's database"}},
		"a view":    {"CREATE VIEW users AS SELECT 1 AS id", []string{"users does not fit", "users is a view", "an ordinary table"}},
		"elsewhere": {"CREATE SCHEMA shop; CREATE TABLE shop.users (id int)", []string{"one in schema shop", "search_path=shop"}},
		"another program's users": {
			"CREATE TABLE users (id bigint PRIMARY KEY, email varchar(255) UNIQUE, password varchar(60)); INSERT INTO users VALUES (1, 'ada@example.com', 'x')",
			[]string{"users.id is bigint", "uuid", "users.password_hash is missing", "neither schema_migrations nor _sqlx_migrations"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{"LATCHKEY_DATABASE_URL": testenv.EmptyDatabase(t), "LATCHKEY_LOG_LEVEL": "error"}
			if test.sql != "" {
				conn := connectTest(t, settings["LATCHKEY_DATABASE_URL"])
				if _, err := conn.Exec(t.Context(), test.sql); err != nil {
					t.Fatal(err)
				}
				if err := conn.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			code, out, err := takeoverRun(t, settings, "check")
			if code != exitFailed || strings.Contains(out, "0 account") || !strings.Contains(out, "No accounts were read") {
				t.Errorf("exit %d: %v\n%s", code, err, out)
			}
			for _, text := range test.says {
				if !strings.Contains(out, text) {
					t.Errorf("it does not say %q:\n%s", text, out)
				}
			}
		})
	}
}
