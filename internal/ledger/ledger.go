// Package ledger is the revocation ledger: numbered rows in PostgreSQL, each
// committed with the fact that it reports. Every replica follows the rows and may
// answer from memory while a lease proves that it has applied all of them; a
// revocation is final once every replica has applied its row or can no longer trust
// its memory.
//
// The files: append.go writes rows, tail.go follows them, listen.go wakes it, trust.go is
// the lease, wait.go the revoker's side of it, log.go what watchers read.
package ledger

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revocations"
)

// Bounds of Config.Lease. Under the least a busy machine would lose it all the time;
// over the most a revocation might not be final within the 15 s of a call.
const (
	MinLease = 300 * time.Millisecond
	MaxLease = 10 * time.Second
)

// Config says how a process takes part in the ledger.
type Config struct {
	// Pool is the database. Following takes two connections of its own beside it.
	Pool *pgxpool.Pool
	// Direct is where those two lead when Pool is behind a pooler that shares connections:
	// LISTEN would succeed through it and hear nothing. Nil: where Pool leads.
	Direct *pgxpool.Pool
	// Lease is how long memory may be trusted after it was seen to be up to date, and
	// so the longest that a revocation takes when a replica is gone. From MinLease to
	// MaxLease; all replicas should have the same.
	Lease time.Duration
	// SessionLife and AccessLife are the longest lives of the sessions and access
	// tokens that this process issues. Rows are kept for as long.
	SessionLife, AccessLife time.Duration
	// LegacyUntil is when this process accepts no token of another system any more. They
	// carry no position and may have any life, so what can refuse one is kept as long.
	// Zero: it accepts none.
	LegacyUntil time.Time
	// Followers hear of every row before it counts as applied.
	Followers []Follower
	Logger    *slog.Logger
	// Now is the wall clock.
	Now func() time.Time
	// Boot is a clock that runs on while the machine sleeps. Nil: the system's.
	Boot func() time.Duration
}

// Follower keeps something in memory that rows change. It is called by one goroutine,
// in the order of the rows, and holds up revocations while it works.
type Follower interface {
	// Applied is called for each row.
	Applied(row *latchkeyv1.Revocation)
	// Reset is called when rows may have been missed: whatever they could have
	// changed must be forgotten.
	Reset()
}

// Ledger is one process's part in the ledger. It is safe for concurrent use. Without
// Run it never trusts its memory, and can append and wait all the same.
type Ledger struct {
	cfg     Config
	queries *db.Queries
	// pageSize is the constant, less in tests.
	pageSize int32

	// revoked is whole at any time: a reading of everything anew is done aside.
	revoked atomic.Pointer[revocations.Table]
	log     rowLog
	trust   trust
	waiters waiters
	batch   batch

	id      atomic.Pointer[uuid.UUID] // of its row in replicas; nil before the first join
	applied atomic.Int64
	poked   chan struct{}
	listens atomic.Bool
	// followed: it was, once. failed is the last failure.
	followed atomic.Bool
	failed   atomic.Pointer[error]
	hangUp   atomic.Pointer[context.CancelCauseFunc] // of listen
	tail     tail
	skewed   atomic.Bool
	// forgotten is read with each confirm; nil before the first.
	forgotten atomic.Pointer[time.Time]
	blind     bool // a row was not understood; only the tail looks
}

// New checks cfg. It does not connect.
func New(cfg Config) (*Ledger, error) {
	switch {
	case cfg.Pool == nil || cfg.Logger == nil || cfg.Now == nil:
		return nil, errors.New("ledger: Config.Pool, Logger and Now are needed")
	case cfg.Lease < MinLease || cfg.Lease > MaxLease:
		return nil, errors.New("ledger: Config.Lease must be from 300ms to 10s")
	}
	if cfg.Boot == nil {
		cfg.Boot = bootTime
	}
	l := &Ledger{cfg: cfg, queries: db.New(), pageSize: pageSize, poked: make(chan struct{}, 1)}
	l.log.changed = make(chan struct{})
	l.tail.table = &revocations.Table{}
	l.revoked.Store(l.tail.table)
	l.trust.boot, l.trust.wall = cfg.Boot, cfg.Now
	l.waiters.known.longest = cfg.Lease
	return l, nil
}

// Trusted says whether what Refuses answers is all that was final when Trusted was
// called. Ask it first: an answer of Refuses that was had before proves nothing.
func (l *Ledger) Trusted() bool { return l.trust.valid() }

// ClockRight says whether the wall clock was within 30 s of PostgreSQL's when the two
// were compared last. Tokens that are dated by a clock that is fast outlive the rows
// that refuse them in the memory of other replicas.
func (l *Ledger) ClockRight() bool { return !l.skewed.Load() }

// Refuses says whether a token of this account and session, whose login was at the
// ledger's position and which the key signed, was revoked.
func (l *Ledger) Refuses(user, session uuid.UUID, position int64, key string) bool {
	return l.revoked.Load().Refuses(user, session, position, key)
}

// RefusesKey says whether the signing key was revoked.
func (l *Ledger) RefusesKey(key string) bool { return l.revoked.Load().RefusesKey(key) }

// Forgotten is the time up to which the ledger may have lost rows that could refuse a
// token of another system, the zero time when it has all: of one that was issued
// before, nobody can tell whether it was revoked. False: not known yet.
func (l *Ledger) Forgotten() (time.Time, bool) {
	at := l.forgotten.Load()
	if at == nil {
		return time.Time{}, false
	}
	return *at, true
}

// Stats are for metrics.
type Stats struct {
	// Trusted says whether validations are answered from memory.
	Trusted bool
	// Applied is the newest position in memory, Rows how many rows are held there.
	Applied int64
	Rows    int
	// Waits and WaitTime add up how long revocations took to become final after their
	// commit; TimedOut are those among them that waited a whole lease.
	Waits, TimedOut int64
	WaitTime        time.Duration
	// Appends are rows of sessions, Flushes the transactions that they shared.
	Appends, Flushes int64
}

// Stats returns what has been counted so far.
func (l *Ledger) Stats() Stats {
	return Stats{
		Trusted: l.Trusted(), Applied: l.applied.Load(), Rows: l.log.len(),
		Waits: l.waiters.waits.Load(), TimedOut: l.waiters.timedOut.Load(), WaitTime: time.Duration(l.waiters.waited.Load()),
		Appends: l.batch.appends.Load(), Flushes: l.batch.flushes.Load(),
	}
}

// poke has the tail look for rows now.
func (l *Ledger) poke() {
	select {
	case l.poked <- struct{}{}:
	default: // it will look anyway
	}
}
