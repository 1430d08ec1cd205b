package ledger_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const (
	lease = time.Second
	// patience is for what happens behind a call on a busy machine.
	patience = 30 * time.Second
)

// follower notes when it must begin anew.
type follower struct {
	mu     sync.Mutex
	resets int
	// applying is set before the replica runs. Optional.
	applying func(row *latchkeyv1.Revocation)
	// during is called while everything is read anew. Optional.
	during func()
}

func (f *follower) Applied(row *latchkeyv1.Revocation) {
	if f.applying != nil {
		f.applying(row)
	}
}

func (f *follower) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
	if f.during != nil {
		f.during()
	}
}

func (f *follower) timesReset() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

// replica is a ledger that runs until the test ends or leave is called.
type replica struct {
	*ledger.Ledger
	follower *follower
	logs     *testenv.Logs
	leave    func()
}

func open(t *testing.T, url string, change func(*ledger.Config)) *replica {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := &replica{follower: &follower{}, logs: &testenv.Logs{}}
	cfg := ledger.Config{
		Pool: pool, Lease: lease, SessionLife: time.Hour, AccessLife: 15 * time.Minute,
		Followers: []ledger.Follower{r.follower}, Logger: slog.New(slog.NewJSONHandler(r.logs, nil)), Now: time.Now,
	}
	if change != nil {
		change(&cfg)
	}
	r.Ledger, err = ledger.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) run(t *testing.T) *replica {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.Run(ctx)
	}()
	r.leave = sync.OnceFunc(func() {
		stop()
		<-left
	})
	t.Cleanup(r.leave)
	return r
}

func start(t *testing.T, url string) *replica {
	t.Helper()
	r := open(t, url, nil).run(t)
	r.trusted(t)
	return r
}

func (r *replica) trusted(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, patience, "the replica trusts its memory", r.Trusted)
}

// end appends the end of a new session and returns it, without waiting.
func (r *replica) end(t *testing.T) (user, session uuid.UUID, position int64) {
	t.Helper()
	user, session = uuid.New(), uuid.New()
	position, err := r.Append(t.Context(), ledger.SessionEnd{
		SessionID: session, UserID: user,
		Time: time.Now(), Kind: "logged_out", Address: "192.0.2.1", TraceID: "trace",
	})
	if err != nil {
		t.Fatal(err)
	}
	return user, session, position
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func query[T any](t *testing.T, pool *pgxpool.Pool, query string, args ...any) T {
	t.Helper()
	var value T
	if err := pool.QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}
