// Package besteffort has work without which a call can be answered: steps in Redis that the ledger makes superfluous,
// and work after the answer. Neither may hold up a call when a store does not answer.
package besteffort

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/panics"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

const (
	// DetachTime limits work for a call whose caller may be gone: closing its attempt in the limiter, or deleting a
	// session whose token nobody will get.
	DetachTime = 3 * time.Second

	// redisPatience is how long a call waits for Redis in all steps that it can do without. Each usually takes less
	// than a millisecond.
	redisPatience = 50 * time.Millisecond
	// redisPause is how long such steps then do not ask Redis. Otherwise one call after another would wait for a Redis
	// that has just not answered.
	redisPause = time.Second
	// ownSubjects limits the addresses and accounts that a replica counts in its own memory: 10 MB.
	ownSubjects = 50_000
)

// ErrImpatient means that Redis was not asked, because it did not answer a moment ago.
var ErrImpatient = errors.New("no answer from Redis of late")

// Detach returns a context for work that must be done even if the caller is gone. It lasts DetachTime.
func Detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), DetachTime)
}

// Redis remembers whether Redis has answered lately. Use NewRedis.
type Redis struct {
	log         *slog.Logger
	shared      *ratelimit.GCRA
	own         *ratelimit.Local
	pausedUntil atomic.Int64 // on the machine's clock, in nanoseconds
}

// NewRedis returns a Redis for one replica. rates has the counts of all replicas. now is the clock for the replica's
// own counts.
func NewRedis(rates *ratelimit.GCRA, log *slog.Logger, now func() time.Time) (*Redis, error) {
	own, err := ratelimit.NewLocal(ratelimit.LocalConfig{Subjects: ownSubjects, Now: now})
	if err != nil {
		return nil, fmt.Errorf("count in memory: %w", err)
	}
	return &Redis{log: log, shared: rates, own: own}, nil
}

// clock reads the machine's clock, which contexts and timers use too.
func clock() int64 {
	return time.Now().UnixNano() //nolint:forbidigo // see above
}

// Ask runs a step in Redis that the call can do without. It returns an error if Redis does not answer soon.
func (r *Redis) Ask(ctx context.Context, step func(context.Context) error) error {
	if clock() < r.pausedUntil.Load() {
		return ErrImpatient
	}
	soon, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	err := step(soon)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		r.pausedUntil.Store(clock() + int64(redisPause))
	}
	return err
}

// Allow counts a call against the rate, and while Redis does not answer only in this replica. The replica counts at all
// times, so that no call is forgotten if Redis stops answering in the middle of a burst. A *ratelimit.LimitedError
// means that the limit was reached.
func (r *Redis) Allow(ctx context.Context, scope, subject string, rate ratelimit.Rate) error {
	if err := r.own.Allow(scope, subject, rate); err != nil {
		return err
	}
	err := r.Ask(ctx, func(ctx context.Context) error { return r.shared.Allow(ctx, scope, subject, rate) })
	if errors.Is(err, ratelimit.ErrUnavailable) || errors.Is(err, ErrImpatient) {
		return nil
	}
	return err
}

// Tidy starts work in Redis that the ledger makes superfluous. It returns a function that waits for the work, but not
// if Redis does not answer. The work may take DetachTime.
func (r *Redis) Tidy(ctx context.Context, work func(context.Context)) (wait func()) {
	done := make(chan struct{})
	ctx, cancel := Detach(ctx)
	go func() {
		defer close(done)
		defer cancel()
		if err := panics.Run(func() { work(ctx) }); err != nil {
			c := caller.From(ctx)
			r.log.ErrorContext(ctx, "internal error", "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
		}
	}()
	return func() {
		_ = r.Ask(ctx, func(ctx context.Context) error {
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
}
