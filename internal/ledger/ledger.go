// Package ledger is the revocation ledger: numbered rows in PostgreSQL, each committed in the transaction of
// the fact that it reports. Every replica applies the rows to its memory. It may answer from memory while it
// has a lease, which proves that it has applied all rows. A revocation is final when every replica has
// applied its row or has no lease.
//
// append.go writes rows, tail.go reads them and renews the lease, listen.go wakes the tail, trust.go has the
// lease, wait.go waits until a row is final, and log.go serves watchers.
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

// Bounds of Config.Lease. A busy machine would often lose a shorter lease. With a longer one, a revocation
// might not be final within the 15 s of a call.
const (
	MinLease = 300 * time.Millisecond
	MaxLease = 10 * time.Second
)

// Config has the settings of one process.
type Config struct {
	// Pool is the database. Following takes two connections of its own beside it.
	Pool *pgxpool.Pool
	// Direct is used for those two if Pool leads to a pooler that shares connections: LISTEN would succeed there
	// and receive nothing. Nil: Pool is used.
	Direct *pgxpool.Pool
	// Lease is how long this process may answer from memory after it had all rows. It is also how long a
	// revocation takes when a replica has died. From MinLease to MaxLease; all replicas should have the same.
	Lease time.Duration
	// SessionLife and AccessLife are the longest lives of the sessions and access tokens that this process
	// issues. Rows are kept for as long.
	SessionLife, AccessLife time.Duration
	// LegacyUntil is when this process stops accepting tokens of the older backends. They carry no position and
	// may live for any time, so rows that can refuse one are kept until then. Zero: it accepts none.
	LegacyUntil time.Time
	// Followers are called for every row before it counts as applied.
	Followers []Follower
	Logger    *slog.Logger
	// Now is the wall clock.
	Now func() time.Time
	// Boot is a clock that runs on while the machine sleeps. Nil: the system's.
	Boot func() time.Duration
}

// Follower has something in memory that rows change. One goroutine calls it, in the order of the rows.
// Revocations wait while it works.
type Follower interface {
	// Applied is called for each row.
	Applied(row *latchkeyv1.Revocation)
	// Reset is called when rows may have been missed: the follower must drop everything that they could have
	// changed.
	Reset()
}

// Ledger is one process's view of the ledger. It is safe for concurrent use. Without Run it never has a
// lease, but it can append and wait.
type Ledger struct {
	cfg     Config
	queries *db.Queries
	// pageSize is the constant, less in tests.
	pageSize int32

	// revoked always has all rows: a reload fills another table and then replaces this one.
	revoked atomic.Pointer[revocations.Table]
	log     rowLog
	lease   lease
	waiters waiters
	batch   batch

	id      atomic.Pointer[uuid.UUID] // of its row in replicas; nil before the first join
	applied atomic.Int64
	woken   chan struct{}
	listens atomic.Bool
	// followed is true once all rows were read for the first time. failed is the last failure.
	followed atomic.Bool
	failed   atomic.Pointer[error]
	hangUp   atomic.Pointer[context.CancelCauseFunc] // of listen
	tail     tail
	skewed   atomic.Bool
	// readLong is true if every replica reads long refresh tokens, as of the last renewal.
	readLong atomic.Bool
	// forgotten is read with each renewal; nil before the first.
	forgotten  atomic.Pointer[time.Time]
	unknownRow bool // a row had an unknown kind; used by the tail only
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
	l := &Ledger{cfg: cfg, queries: db.New(), pageSize: pageSize, woken: make(chan struct{}, 1)}
	l.log.changed = make(chan struct{})
	l.tail.table = &revocations.Table{}
	l.revoked.Store(l.tail.table)
	l.lease.boot, l.lease.wall = cfg.Boot, cfg.Now
	l.waiters.known.longest = cfg.Lease
	return l, nil
}

// Trusted returns whether the lease is valid: whether memory has every row that was final at this moment.
// Call it before Refuses. The other order proves nothing, since a row may become final in between.
func (l *Ledger) Trusted() bool { return l.lease.valid() }

// ClockRight returns whether the wall clock was within 30 s of PostgreSQL's at the last comparison. A token
// that is dated by a fast clock would outlive, in the memory of other replicas, the rows that refuse it.
func (l *Ledger) ClockRight() bool { return !l.skewed.Load() }

// ReadLong returns whether every replica could read long refresh tokens at the last renewal. It returns false before
// the first one.
func (l *Ledger) ReadLong() bool { return l.readLong.Load() }

// Refuses returns whether a row in memory refuses a token of this account and session, with the position of
// its login and the key that signed it.
func (l *Ledger) Refuses(user, session uuid.UUID, position int64, key string) bool {
	return l.revoked.Load().Refuses(user, session, position, key)
}

// RefusesKey returns whether the signing key was revoked.
func (l *Ledger) RefusesKey(key string) bool { return l.revoked.Load().RefusesKey(key) }

// Forgotten returns the time up to which the ledger may have deleted rows that could refuse a token of the
// older backends, or the zero time if it has all of them. For a token that was issued before that time,
// nobody can tell whether it was revoked. It returns false before the first renewal.
func (l *Ledger) Forgotten() (time.Time, bool) {
	at := l.forgotten.Load()
	if at == nil {
		return time.Time{}, false
	}
	return *at, true
}

// Stats are for metrics.
type Stats struct {
	// Trusted is whether validations are answered from memory.
	Trusted bool
	// Applied is the newest position in memory, Rows how many rows are held there.
	Applied int64
	Rows    int
	// Waits counts revocations that became final, and WaitTime adds up how long each took after its commit.
	// TimedOut counts those that waited a whole lease.
	Waits, TimedOut int64
	WaitTime        time.Duration
	// Appends counts rows about sessions, Flushes the transactions that they shared.
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

// wake makes the tail look for rows now.
func (l *Ledger) wake() {
	select {
	case l.woken <- struct{}{}:
	default: // it is about to look
	}
}
