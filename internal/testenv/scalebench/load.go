package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// sessionWriters write sessions at once, so that Redis always has work.
	sessionWriters = 64
	// loginsKept is how many of the sessions' refresh tokens are kept, for measuring.
	loginsKept = 3000
	// indexesFrom is from how many accounts on the indexes are made after the accounts: that takes a third of the time.
	indexesFrom = 50_000
	// ledgerDays is how long the ledger keeps a row by default: the longest life of a session.
	ledgerDays = 30
)

// load fills the stores of a site.
func (s *site) load(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{fmt.Sprintf("%d accounts", s.accounts), s.loadAccounts},
		{fmt.Sprintf("%d sessions", s.sessions), s.loadSessions},
		{fmt.Sprintf("%d rows of the ledger", s.rows), s.loadLedger},
		{"VACUUM ANALYZE, as autovacuum does in time", s.tidy},
	} {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("load %s: %w", step.what, err)
		}
		s.stand.progress("%s: %s: %.1f s", s.name, step.what, time.Since(began).Seconds())
	}
	return nil
}

// rows is a pgx.CopyFromSource of numbered rows.
type rows struct {
	next, end int64
	row       func(n int64) []any
}

func (r *rows) Next() bool             { r.next++; return r.next <= r.end }
func (r *rows) Values() ([]any, error) { return r.row(r.next - 1), nil }
func (r *rows) Err() error             { return nil }

func copyRows(ctx context.Context, conn *pgx.Conn, table string, columns []string, count int64, row func(n int64) []any) error {
	copied, err := conn.CopyFrom(ctx, pgx.Identifier{table}, columns, &rows{end: count, row: row})
	if err == nil && copied != count {
		err = fmt.Errorf("%d rows instead of %d", copied, count)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", table, err)
	}
	return nil
}

func (s *site) loadAccounts(ctx context.Context) (err error) {
	conn, err := s.connectLoading(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rebuild := func(context.Context) error { return nil }
	if s.accounts >= indexesFrom {
		if rebuild, err = dropIndexes(ctx, conn, "users"); err != nil {
			return err
		}
	}
	columns := []string{"id", "email", "email_lookup", "password_hash", "first_name", "last_name", "created_at", "updated_at", "last_login_at", "is_active", "is_verified"}
	err = copyRows(ctx, conn, "users", columns, s.accounts, func(n int64) []any {
		p := s.person(n)
		return []any{p.id, p.email, address.Lookup(p.email), s.stand.hash, p.first, p.last, p.created, p.created, p.created, true, true}
	})
	if err != nil {
		return err
	}
	return rebuild(ctx)
}

// dropIndexes drops the indexes of a table, except its primary key, and returns what makes them again.
func dropIndexes(ctx context.Context, conn *pgx.Conn, table string) (func(context.Context) error, error) {
	rows, err := conn.Query(ctx, `
		SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %s', i.indexrelid::regclass)
				ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, c.conname) END,
			CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.indexrelid)
				ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', i.indrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) END
		FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid
		WHERE i.indrelid = $1::text::regclass AND NOT i.indisprimary
		ORDER BY i.indexrelid`, table)
	if err != nil {
		return nil, err
	}
	var drop, rebuild string
	var drops, rebuilds []string
	if _, err := pgx.ForEachRow(rows, []any{&drop, &rebuild}, func() error {
		drops, rebuilds = append(drops, drop), append(rebuilds, rebuild)
		return nil
	}); err != nil {
		return nil, err
	}
	each := func(ctx context.Context, statements []string) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	}
	return func(ctx context.Context) error { return each(ctx, rebuilds) }, each(ctx, drops)
}

// logins are sessions whose tokens are known.
type logins struct {
	mu   sync.Mutex
	all  []*login
	next atomic.Int64
}

// login is one of them. Only one caller at a time uses it.
type login struct {
	userID, sessionID uuid.UUID
	refresh, access   string
}

// loadSessions makes the sessions as the service does, and the rows that PostgreSQL has of them: a mark of each session,
// and what an account has whose owner has logged in.
func (s *site) loadSessions(ctx context.Context) error {
	var err error
	if s.redisUsed[0], err = s.redisMemory(ctx); err != nil {
		return err
	}
	s.logins = &logins{}
	if err := s.createSessions(ctx); err != nil {
		return err
	}
	if s.redisUsed[1], err = s.redisMemory(ctx); err != nil {
		return err
	}
	slices.SortFunc(s.logins.all, func(a, b *login) int { return slices.Compare(a.sessionID[:], b.sessionID[:]) })
	return s.loadMarks(ctx)
}

func (s *site) createSessions(ctx context.Context) error {
	keepEach := max(1, s.sessions/loginsKept)
	var position int64
	if err := s.pool.QueryRow(ctx, "SELECT seq FROM ledger_head").Scan(&position); err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, sessionWriters)
	var writing sync.WaitGroup
	for w := range sessionWriters {
		writing.Go(func() {
			for errs[w] == nil {
				n := next.Add(1) - 1
				if n >= s.sessions {
					return
				}
				created, err := s.store.Create(ctx, session.Start{
					ID: id("session", n), UserID: id("account", s.owner(n)), Position: position,
					DeviceName: "Firefox on Linux", Address: "203.0.113.77", AMR: []string{"pwd"},
				})
				errs[w] = err
				if err == nil && n%keepEach == 0 {
					s.logins.mu.Lock()
					s.logins.all = append(s.logins.all, &login{userID: created.Session.UserID, sessionID: created.Session.ID, refresh: created.RefreshToken})
					s.logins.mu.Unlock()
				}
			}
		})
	}
	writing.Wait()
	return errors.Join(errs...)
}

func (s *site) loadMarks(ctx context.Context) (err error) {
	conn, err := s.connectLoading(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	now := time.Now()
	owners := (s.sessions + sessionsEach - 1) / sessionsEach
	return errors.Join(
		copyRows(ctx, conn, "session_marks", []string{"session_id", "user_id", "generation", "marked_at", "keep_until"}, s.sessions, func(n int64) []any {
			return []any{id("session", n), id("account", s.owner(n)), int64(1), now, now.Add(ledgerDays*24*time.Hour + time.Hour)}
		}),
		copyRows(ctx, conn, "password_guards", []string{"user_id", "epoch", "devices_since"}, owners, func(n int64) []any {
			return []any{id("account", s.owner(n*sessionsEach)), int64(0), now}
		}),
	)
}

// loadLedger makes a row for each logout of the last thirty days, with its event in the audit trail. Their positions
// are those that the service would have given: milliseconds within the server's timeline.
func (s *site) loadLedger(ctx context.Context) (err error) {
	conn, err := s.connectLoading(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	now := time.Now().Add(-time.Second)
	step := ledgerDays * 24 * time.Hour / time.Duration(s.rows)
	at := func(n int64) time.Time { return now.Add(-step * time.Duration(s.rows-1-n)) }
	epoch := time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)
	const firstTimeline = 1 << 40
	seq := func(n int64) int64 { return firstTimeline + max(at(n).Sub(epoch).Milliseconds(), n) }
	// Sessions that are over, of any account.
	user := func(n int64) uuid.UUID { return id("account", number("ended account", n, s.accounts)) }
	err = errors.Join(
		copyRows(ctx, conn, "revocations", []string{"seq", "tip", "kind", "session_id", "user_id", "created_at", "keep_until"}, s.rows, func(n int64) []any {
			return []any{seq(n), id("tip", n), "session", id("ended", n), user(n), at(n), at(n).Add(ledgerDays*24*time.Hour + time.Hour)}
		}),
		copyRows(ctx, conn, "audit_events", []string{"created_at", "kind", "user_id", "session_id", "address", "trace_id", "call_id"}, s.rows, func(n int64) []any {
			trace := fmt.Sprintf("%x", digest("trace", n))
			return []any{at(n), "logout", user(n), id("ended", n), "203.0.113.77", trace[:32], trace[32:]}
		}),
	)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "UPDATE ledger_head SET seq = $1, tip = $2", seq(s.rows-1), id("tip", s.rows-1))
	return err
}

func (s *site) tidy(ctx context.Context) (err error) {
	conn, err := s.connectLoading(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, statement := range []string{"VACUUM (ANALYZE)", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
