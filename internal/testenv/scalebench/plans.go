package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// plan is how PostgreSQL did a statement of the service.
type plan struct {
	Name string `json:"name"`
	Text string `json:"plan"`
}

// errCaught stops a query after its text is known.
var errCaught = errors.New("caught")

// catcher is a connection that notes the statement instead of running it.
type catcher struct {
	sql  string
	args []any
}

func (c *catcher) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	c.sql, c.args = sql, args
	return pgconn.CommandTag{}, errCaught
}

func (c *catcher) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.sql, c.args = sql, args
	return nil, errCaught
}

func (c *catcher) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	c.sql, c.args = sql, args
	return caughtRow{}
}

func (c *catcher) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults { return nil }

type caughtRow struct{}

func (caughtRow) Scan(...any) error { return errCaught }

// explainAll explains the statements that each login, refresh, list, revocation and start runs.
func (s *site) explainAll(ctx context.Context) ([]plan, error) {
	q := db.New()
	p, l := s.person(s.accounts/2), s.logins.all[0]
	newest := account.Newest()
	var all []plan
	for _, each := range []struct {
		name string
		run  func(on db.DBTX) error
	}{
		{"Login: FindUserByEmail", func(on db.DBTX) error {
			_, err := q.FindUserByEmail(ctx, on, db.FindUserByEmailParams{Email: p.email, EmailLookup: address.Lookup(p.email)})
			return err
		}},
		{"Login: RecordLogin", func(on db.DBTX) error {
			_, err := q.RecordLogin(ctx, on, db.RecordLoginParams{ID: p.id, Now: time.Now(), Most: 100})
			return err
		}},
		{"RefreshToken: FindUserForSession", func(on db.DBTX) error {
			_, err := q.FindUserForSession(ctx, on, db.FindUserForSessionParams{SessionID: l.sessionID, UserID: l.userID, Position: 1 << 62})
			return err
		}},
		{"RefreshToken: MarkSession", func(on db.DBTX) error {
			return q.MarkSession(ctx, on, db.MarkSessionParams{SessionID: l.sessionID, UserID: l.userID, Generation: 1 << 40, MarkedAt: time.Now(), KeepUntil: time.Now()})
		}},
		{"ListSessions: RevokedSessions", func(on db.DBTX) error {
			_, err := q.RevokedSessions(ctx, on, db.RevokedSessionsParams{
				UserID: l.userID, SessionIds: []uuid.UUID{l.sessionID, uuid.New(), uuid.New()}, Positions: []int64{1 << 62, 1 << 62, 1 << 62},
			})
			return err
		}},
		{"ListUsers: first page", func(on db.DBTX) error {
			_, err := q.ListUsers(ctx, on, db.ListUsersParams{Before: newest.Time, BeforeID: newest.ID, PageSize: 101})
			return err
		}},
		{"ListUsers: a page in the middle", func(on db.DBTX) error {
			_, err := q.ListUsers(ctx, on, db.ListUsersParams{Before: p.created, BeforeID: p.id, PageSize: 101})
			return err
		}},
		{"Logout: AppendSessionRevocations", func(on db.DBTX) error {
			_, err := q.AppendSessionRevocations(ctx, on, db.AppendSessionRevocationsParams{
				Now: time.Now(), SessionIds: []uuid.UUID{uuid.New()}, UserIds: []uuid.UUID{p.id}, Kinds: []string{"logout"},
				Addresses: []string{""}, TraceIds: []string{""}, CallIds: []string{""}, Actors: []string{""},
			})
			return err
		}},
		{"Start: SampleHashSettings", func(on db.DBTX) error {
			_, err := q.SampleHashSettings(ctx, on, password.SettingPattern())
			return err
		}},
		{"Start: RevocationsInForce", func(on db.DBTX) error {
			_, err := q.RevocationsInForce(ctx, on, db.RevocationsInForceParams{Page: 5000})
			return err
		}},
	} {
		text, err := s.explain(ctx, each.run)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", each.name, err)
		}
		all = append(all, plan{each.name, text})
	}
	return all, nil
}

// explain runs a statement twice, shows the plan of the second time, and takes both back.
func (s *site) explain(ctx context.Context, run func(db.DBTX) error) (string, error) {
	var c catcher
	if err := run(&c); !errors.Is(err, errCaught) {
		return "", err
	}
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var text strings.Builder
	for range 2 {
		text.Reset()
		rows, err := tx.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) "+c.sql, c.args...)
		if err != nil {
			return "", err
		}
		var line string
		if _, err := pgx.ForEachRow(rows, []any{&line}, func() error { text.WriteString(line + "\n"); return nil }); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}
