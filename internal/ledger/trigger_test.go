package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const insertUser = `INSERT INTO users (email, password_hash, first_name, last_name)
	VALUES (gen_random_uuid() || '@example.com', 'a hash', 'Ada', 'Lovelace') RETURNING id`

// kinds lists the kinds of the account's rows, oldest first.
func kinds(t *testing.T, pool *pgxpool.Pool, user uuid.UUID) string {
	t.Helper()
	return query[string](t, pool, "SELECT coalesce(string_agg(kind, ' ' ORDER BY seq), '') FROM revocations WHERE user_id = $1 OR kind = 'all'", user)
}

// TestPlainSQL: whatever changes an account appends, by whatever way, and nothing else does.
func TestPlainSQL(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	for name, test := range map[string]struct{ change, want string }{
		"suspended":             {"UPDATE users SET is_active = false WHERE id = $1", "user"},
		"a new hash":            {"UPDATE users SET password_hash = 'b' WHERE id = $1", "user"},
		"deleted":               {"DELETE FROM users WHERE id = $1", "user"},
		"another id":            {"UPDATE users SET id = gen_random_uuid() WHERE id = $1", "user"},
		"renamed":               {"UPDATE users SET first_name = 'Augusta' WHERE id = $1", "user_changed"},
		"another address":       {"UPDATE users SET email = 'x' || email WHERE id = $1", "user_changed"},
		"verified":              {"UPDATE users SET is_verified = true WHERE id = $1", "user_changed"},
		"logged in":             {"UPDATE users SET last_login_at = now() WHERE id = $1", ""},
		"nothing":               {"UPDATE users SET is_active = true WHERE id = $1", ""},
		"a rehash":              {"UPDATE users SET password_hash = 'b' WHERE id = $1 AND set_config('latchkey.rehash', $1::uuid::text, true) <> ''", ""},
		"a rehash of another":   {"UPDATE users SET password_hash = 'b' WHERE id = $1 AND set_config('latchkey.rehash', gen_random_uuid()::text, true) <> ''", "user"},
		"a rehash and renamed":  {"UPDATE users SET password_hash = 'b', first_name = 'c' WHERE id = $1 AND set_config('latchkey.rehash', $1::uuid::text, true) <> ''", "user_changed"},
		"a rehash and disabled": {"UPDATE users SET password_hash = 'b', is_active = false WHERE id = $1 AND set_config('latchkey.rehash', $1::uuid::text, true) <> ''", "user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := query[uuid.UUID](t, pool, insertUser)
			exec(t, pool, test.change, user)
			if got := kinds(t, pool, user); got != test.want {
				t.Errorf("appended %q, want %q", got, test.want)
			}
		})
	}
}

// TestRowOfItsOwn: a transaction that has appended for the account itself needs no second row, whatever else
// it changes; the next transaction does.
func TestRowOfItsOwn(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	user, other := query[uuid.UUID](t, pool, insertUser), query[uuid.UUID](t, pool, insertUser)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{
		"UPDATE users SET is_active = false",
		"SELECT latchkey_append_revocation('user', NULL, '" + user.String() + "', gen_random_uuid(), NULL, NULL)",
		"UPDATE users SET password_hash = 'b'",
	} {
		if _, err := tx.Exec(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, pool, user); got != "user" {
		t.Errorf("appended %q, want its own row only", got)
	}
	if got := kinds(t, pool, other); got != "user" {
		t.Errorf("appended %q for the other account", got)
	}
	exec(t, pool, "UPDATE users SET password_hash = 'c' WHERE id = $1", user)
	if got := kinds(t, pool, user); got != "user user" {
		t.Errorf("appended %q", got)
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	exec(t, pool, "TRUNCATE users CASCADE")
	if got := kinds(t, pool, uuid.Nil); got != "all" {
		t.Errorf("appended %q", got)
	}
}

// TestOrderOfCommits: a reader that sees a row sees all rows with lower numbers.
func TestOrderOfCommits(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	const writers, each = 6, 30
	done := make(chan error, writers)
	var seen int64
	rows := map[int64]int64{} // by head, when it was read
	for range writers {
		go func() {
			for range each {
				if _, err := pool.Exec(t.Context(), insertUser); err != nil {
					done <- err
					return
				}
				if _, err := pool.Exec(t.Context(), "UPDATE users SET password_hash = gen_random_uuid()::text WHERE id = (SELECT id FROM users ORDER BY random() LIMIT 1)"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for finished := 0; finished < writers; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			finished++
		default:
			head := query[int64](t, pool, "SELECT seq FROM ledger_head")
			// A later statement: it must find every row up to there.
			n := query[int64](t, pool, "SELECT count(*) FROM revocations WHERE seq <= $1", head)
			if n < seen {
				t.Fatalf("head %d, %d rows, %d before", head, n, seen)
			}
			seen, rows[head] = n, n
		}
	}
	for head, then := range rows {
		if now := query[int64](t, pool, "SELECT count(*) FROM revocations WHERE seq <= $1", head); now != then {
			t.Errorf("head %d: %d rows, and %d more came later", head, then, now-then)
		}
	}
}

// TestLongTransaction: a row counts from when it was appended, however long before its transaction began:
// memory would forget it at once.
func TestLongTransaction(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	user := query[uuid.UUID](t, pool, insertUser)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE users SET password_hash = 'b' WHERE id = $1", user); err != nil {
		t.Fatal(err)
	}
	began := query[time.Time](t, pool, "SELECT clock_timestamp()")
	if _, err := tx.Exec(t.Context(), "SELECT pg_sleep(0.2)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if row := query[time.Time](t, pool, "SELECT created_at FROM revocations WHERE user_id = $1", user); !row.After(began) {
		t.Errorf("the row counts from %s, and it was appended after %s", row, began)
	}
}
