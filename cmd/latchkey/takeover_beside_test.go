package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// manyAccounts is how many accounts a takeover beside a working backend has. To measure its time on a large table: go
// test ./cmd/latchkey -run TestTakeoverBeside -v -takeover.accounts 1000000
var manyAccounts = flag.Int("takeover.accounts", 6000, "accounts in TestTakeoverBesideTheOldBackend") //nolint:gochecknoglobals // how package testing takes flags

// fillOld adds accounts to an old database, some of which share their address.
func fillOld(t *testing.T, conn *pgx.Conn, accounts int) {
	t.Helper()
	mustExec(t, conn, `
		INSERT INTO users (email, password_hash, first_name, last_name, created_at, updated_at, last_login_at)
		SELECT CASE WHEN i % 1000 = 0 THEN 'User' || (i - 1) || '@Example.com' ELSE 'user' || i || '@example.com' END,
			'$argon2id$v=19$m=19456,t=2,p=1$YzdkYzlkOTI0YTUwZjMyMw$' || left(replace(replace(encode(sha256(i::text::bytea), 'base64'), E'\n', ''), '=', ''), 43),
			'Ada', 'Lovelace', timestamptz '2024-01-01' + i * interval '1 minute', timestamptz '2024-06-01', NULL
		FROM generate_series(1, $1) AS i`, accounts)
	mustExec(t, conn, "ANALYZE users")
}

// oldBackend acts as an older backend on a connection of its own. In each round it signs up, logs in, and changes a
// password and a status, with the statements of its kind.
type oldBackend struct {
	conn   *pgx.Conn
	rounds atomic.Int64

	mu      sync.Mutex
	longest time.Duration
	slowest string
}

func (b *oldBackend) do(ctx context.Context, statement string, args ...any) error {
	began := time.Now()
	tag, err := b.conn.Exec(ctx, statement, args...)
	took := time.Since(began)
	b.mu.Lock()
	defer b.mu.Unlock()
	if took > b.longest {
		b.longest, b.slowest = took, statement
	}
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%d rows", tag.RowsAffected())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func (b *oldBackend) round(ctx context.Context, accounts int) error {
	n := b.rounds.Add(1)
	id := uuid.New()
	// Somewhere in the middle of the rows that are being filled, at another place each time.
	other := fmt.Sprintf("user%d@example.com", (n*7919)%int64(accounts)/1000*1000+1)
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$YzdkYzlkOTI0YTUwZjMyMw$5dotjLcNi5m1fyJ2HiaQKjhmVew4POzxI7Edf6xl/yI"
	for _, s := range [][]any{
		{
			"INSERT INTO users (id, email, password_hash, first_name, last_name, created_at, updated_at, is_active, is_verified) VALUES ($1, $2, $3, 'F', 'L', now(), now(), true, false)",
			id, fmt.Sprintf("Beside%d@Example.com", n), hash,
		},
		{"SELECT id, email, password_hash, first_name, last_name, created_at, updated_at, last_login_at, is_active, is_verified FROM users WHERE email = $1", other},
		{"UPDATE users SET last_login_at = now() WHERE email = $1", other},
		{"UPDATE users SET password_hash = $2, updated_at = now() WHERE id = $1", id, hash + "A"},
		{"UPDATE users SET is_active = false WHERE id = $1", id},
		{"UPDATE users SET email = $2, is_verified = true WHERE id = $1", id, fmt.Sprintf("Moved%d@Example.com", n)},
	} {
		statement, _ := s[0].(string)
		if err := b.do(ctx, statement, s[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// TestTakeoverBesideTheOldBackend: the older backend works meanwhile. None of its statements fails, and none waits for a
// second.
func TestTakeoverBesideTheOldBackend(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	if *manyAccounts > 100_000 {
		settings["LATCHKEY_LOG_LEVEL"] = "info" // to show the progress
	}
	conn := connectTest(t, old.DatabaseURL)
	fillOld(t, conn, *manyAccounts)
	columns := queryStrings(t, old.DatabaseURL, "SELECT column_name || ' ' || data_type || ' ' || coalesce(column_default, '') || is_nullable FROM information_schema.columns WHERE table_name = 'users' ORDER BY ordinal_position")
	var before string
	const digest = "SELECT md5(string_agg((to_jsonb(u) - 'email_lookup')::text, ',' ORDER BY id)) FROM users u WHERE email NOT LIKE 'user%1@example.com' AND email NOT LIKE 'Moved%'"
	if err := conn.QueryRow(t.Context(), digest).Scan(&before); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	code, report := takeoverCheck(t, settings)
	checkTook := time.Since(began)
	if code != exitDecisions || report.DecisionsTotal != int64(1+*manyAccounts/1000) || report.Database.Accounts.Total != int64(15+*manyAccounts) {
		t.Errorf("check: exit %d, %d decisions, %+v, %v", code, report.DecisionsTotal, report.Database, report.Problems)
	}

	backend := &oldBackend{conn: connectTest(t, old.DatabaseURL)}
	done, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := backend.round(context.WithoutCancel(t.Context()), *manyAccounts); err != nil {
				failed <- err
				return
			}
		}
	}()
	began = time.Now()
	takeoverApply(t, settings)
	applyTook := time.Since(began)
	during := backend.rounds.Load()
	testenv.Eventually(t, patience, "the older backend works on what apply left", func() bool { return backend.rounds.Load() > during+20 })
	close(done)
	if err := <-failed; err != nil {
		t.Fatalf("the older backend failed: %v", err)
	}
	t.Logf("%d accounts: check %s, apply %s, %d rounds of the older backend meanwhile, its longest statement %s: %.40s",
		*manyAccounts, checkTook.Round(time.Millisecond), applyTook.Round(time.Millisecond), during, backend.longest, backend.slowest)
	if backend.longest > time.Second {
		t.Errorf("a statement of the older backend waited %s: %s", backend.longest, backend.slowest)
	}
	var after string
	if err := conn.QueryRow(t.Context(), digest).Scan(&after); err != nil || after != before {
		t.Errorf("rows that nobody touched changed (%v)", err)
	}
	same(t, "schema_migrations", queryStrings(t, old.DatabaseURL, "SELECT version || ' ' || dirty FROM schema_migrations"), []string{"1 false"})
	same(t, "the columns of before", queryStrings(t, old.DatabaseURL, "SELECT column_name || ' ' || data_type || ' ' || coalesce(column_default, '') || is_nullable FROM information_schema.columns WHERE table_name = 'users' AND column_name <> 'email_lookup' ORDER BY ordinal_position"), columns)
	wrong := queryStrings(t, old.DatabaseURL, "SELECT email || coalesce(' ' || email_lookup, '') || ' ' || created_at || ' ' || updated_at FROM users WHERE email_lookup IS DISTINCT FROM latchkey_email_lookup(email) LIMIT "+strconv.Itoa(3+*manyAccounts/1000))
	if len(wrong) != 1+*manyAccounts/1000 {
		t.Errorf("%d accounts without their address in every spelling: %v", len(wrong), wrong)
	}
	if code, report := takeoverCheck(t, settings); code != exitDone || report.Status != takeover.Clear {
		t.Errorf("check after: exit %d, %v", code, report.Problems)
	}
}
