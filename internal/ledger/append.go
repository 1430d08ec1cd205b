package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
)

const (
	// appendTime bounds one append. With the longest lease after it, a call of 15 s can still answer that the
	// row is final, or that nobody knows.
	appendTime = 5 * time.Second
	// maxBatch bounds how long one transaction holds the head's lock: 500 rows take about 15 ms.
	maxBatch = 500
)

// SessionEnd is the end of one session, with its event for the audit trail.
type SessionEnd struct {
	SessionID, UserID uuid.UUID
	// The others are for the audit trail.
	Time                                  time.Time
	Kind, Address, TraceID, CallID, Actor string
}

// batch collects ends of sessions while an append runs, so that any number of them costs one flush.
type batch struct {
	mu       sync.Mutex
	pending  []*appending
	flushing bool

	appends, flushes atomic.Int64
}

type appending struct {
	end      SessionEnd
	done     chan struct{}
	position int64
	err      error
}

// Append writes the end of a session and returns its position. The row is not final until Wait returns. If
// ctx ends first, Append returns its error and the append continues: the row may or may not be written.
func (l *Ledger) Append(ctx context.Context, end SessionEnd) (position int64, err error) {
	a := &appending{end: end, done: make(chan struct{})}
	b := &l.batch
	b.mu.Lock()
	b.pending = append(b.pending, a)
	if !b.flushing {
		b.flushing = true
		go l.flush(context.WithoutCancel(ctx))
	}
	b.mu.Unlock()
	select {
	case <-a.done:
		return a.position, a.err
	case <-ctx.Done():
		return 0, fmt.Errorf("append to the ledger: %w", ctx.Err())
	}
}

// flush appends the pending rows, batch by batch, until there are none.
func (l *Ledger) flush(ctx context.Context) {
	b := &l.batch
	for {
		b.mu.Lock()
		taken := b.pending[:min(len(b.pending), maxBatch)]
		b.pending = b.pending[len(taken):]
		if len(taken) == 0 {
			b.flushing = false
			b.pending = nil
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		position, err := l.appendAll(ctx, taken)
		for _, a := range taken {
			// All get the last row's position: a wait for it covers the rows before it.
			a.position, a.err = position, err
			close(a.done)
		}
	}
}

func (l *Ledger) appendAll(ctx context.Context, ends []*appending) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	params := db.AppendSessionRevocationsParams{Now: ends[0].end.Time}
	for _, a := range ends {
		params.SessionIds = append(params.SessionIds, a.end.SessionID)
		params.UserIds = append(params.UserIds, a.end.UserID)
		params.Kinds = append(params.Kinds, a.end.Kind)
		params.Addresses = append(params.Addresses, a.end.Address)
		params.TraceIds = append(params.TraceIds, a.end.TraceID)
		params.CallIds = append(params.CallIds, a.end.CallID)
		params.Actors = append(params.Actors, a.end.Actor)
	}
	position, err := l.queries.AppendSessionRevocations(ctx, l.cfg.Pool, params)
	if err != nil {
		return 0, fmt.Errorf("append to the ledger: %w", err)
	}
	l.batch.appends.Add(int64(len(ends)))
	l.batch.flushes.Add(1)
	return position, nil
}
