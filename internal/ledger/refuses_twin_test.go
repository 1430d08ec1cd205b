package ledger_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/revocations"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// things are what generated rows and tokens are about. There are few of each, so that rows often meet tokens.
type things struct {
	users, sessions []uuid.UUID
	keys            []string
}

// insertRow adds a generated row to the ledger at a position.
func (th things) insertRow(t *rapid.T, tx pgx.Tx, position int64) {
	kind := rapid.SampledFrom([]string{"session", "user", "user", "all", "key", "user_changed", "keys_changed"}).Draw(t, "kind")
	var user, session, except *uuid.UUID
	var key *string
	switch kind {
	case "session":
		user = new(rapid.SampledFrom(th.users).Draw(t, "user"))
		session = new(rapid.SampledFrom(th.sessions).Draw(t, "session"))
	case "user", "user_changed":
		user = new(rapid.SampledFrom(th.users).Draw(t, "user"))
	case "key":
		key = new(rapid.SampledFrom(th.keys).Draw(t, "key"))
	}
	if (kind == "user" || kind == "all") && rapid.Bool().Draw(t, "with an exception") {
		except = new(rapid.SampledFrom(th.sessions).Draw(t, "except"))
	}
	if _, err := tx.Exec(context.Background(), `INSERT INTO revocations VALUES ($1, gen_random_uuid(), $2, $3, $4, $5, $6, now(), now())`,
		position, kind, session, user, except, key); err != nil {
		t.Fatal(err)
	}
}

// TestRefusesAsSQL: memory and PostgreSQL refuse the same tokens, whatever rows the ledger has. The function
// in SQL is asked alone and through the queries that decide: one of them may pass it the wrong thing.
func TestRefusesAsSQL(t *testing.T) {
	t.Parallel()
	pool, queries := connect(t, testenv.Migrated(t)), db.New()
	th := things{keys: []string{"key-1", "key-2"}}
	for range 2 {
		th.users = append(th.users, query[uuid.UUID](t, pool, insertUser))
	}
	for range 3 {
		th.sessions = append(th.sessions, uuid.New())
	}
	const lastPosition = 8
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		tx, err := pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(ctx) //nolint:errcheck // the rows of one example are not for the next
		for position := int64(1); position <= lastPosition; position++ {
			if rapid.Bool().Draw(t, "a row") {
				th.insertRow(t, tx, position)
			}
		}
		rows, err := queries.RevocationsAfter(ctx, tx, db.RevocationsAfterParams{Page: lastPosition})
		if err != nil {
			t.Fatal(err)
		}
		memory := &revocations.Table{}
		for _, row := range rows {
			if !memory.Apply(ledger.Message(row, time.Hour)) {
				t.Fatalf("a row that memory does not understand: %+v", row)
			}
		}
		for _, user := range th.users {
			th.compareSessions(t, tx, memory, user, lastPosition)
		}
		position := rapid.Int64Range(0, lastPosition).Draw(t, "position")
		key := rapid.SampledFrom(append([]string{""}, th.keys...)).Draw(t, "key of the token")
		th.compareTokens(t, tx, memory, position, key)
	})
}

// compareSessions compares RevokedSessions with memory, for each session at each position.
func (th things) compareSessions(t *rapid.T, tx pgx.Tx, memory *revocations.Table, user uuid.UUID, last int64) {
	for position := range last + 1 {
		params := db.RevokedSessionsParams{UserID: user, SessionIds: th.sessions}
		params.Positions = slices.Repeat([]int64{position}, len(th.sessions))
		revoked, err := db.New().RevokedSessions(context.Background(), tx, params)
		if err != nil {
			t.Fatal(err)
		}
		for i, session := range th.sessions {
			want := memory.Refuses(user, session, position, "")
			if got := slices.Contains(revoked, session); got != want {
				t.Fatalf("session %d at position %d: RevokedSessions refuses it: %v, memory: %v", i, position, got, want)
			}
		}
	}
}

// compareTokens compares FindUserForSession and the function itself with memory, for each account and
// session.
func (th things) compareTokens(t *rapid.T, tx pgx.Tx, memory *revocations.Table, position int64, key string) {
	ctx := context.Background()
	for u, user := range th.users {
		for s, session := range th.sessions {
			found, err := db.New().FindUserForSession(ctx, tx, db.FindUserForSessionParams{
				UserID: user, SessionID: session, Position: position, KeyID: key,
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := memory.Refuses(user, session, position, ""); found.Revoked != want {
				t.Fatalf("user %d, session %d: FindUserForSession refuses the session: %v, memory: %v", u, s, found.Revoked, want)
			}
			if want := memory.RefusesKey(key); found.KeyRevoked != want {
				t.Fatalf("FindUserForSession refuses the key: %v, memory: %v", found.KeyRevoked, want)
			}
			var refused bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM latchkey_refusals($1, $2, $3, $4))", user, session, position, key).Scan(&refused); err != nil {
				t.Fatal(err)
			}
			if want := memory.Refuses(user, session, position, key); refused != want {
				t.Fatalf("user %d, session %d: latchkey_refusals: %v, memory: %v", u, s, refused, want)
			}
		}
	}
}

// TestRefusalsAreInlined: PostgreSQL puts the function's text into the statement. A change of its form that
// prevents that would plan it anew for every refresh, and read whole tables of positions instead of stopping
// at the first.
func TestRefusalsAreInlined(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.Migrated(t))
	rows, err := pool.Query(t.Context(), `EXPLAIN SELECT EXISTS (SELECT FROM latchkey_refusals(users.id, users.id, 1, 'key'))
		FROM users`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	if strings.Contains(text, "Function Scan") || !strings.Contains(text, "revocations") {
		t.Errorf("latchkey_refusals is called as a function:\n%s", text)
	}
}
