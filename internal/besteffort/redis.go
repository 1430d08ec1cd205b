// Package besteffort has work that a call can be answered without: steps in Redis that the ledger makes superfluous, and
// what is done after the answer. Neither may hold a call up when a store does not answer.
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
	// DetachTime bounds what is still done for a call whose caller may be gone: closing its attempt in the limiter, or
	// deleting a session whose token nobody will get.
	DetachTime = 3 * time.Second

	// redisPatience is how long a call waits for Redis in all steps that can be done
	// without: each takes less than a millisecond as a rule.
	redisPatience = 50 * time.Millisecond
	// redisPause is how long such steps then do not ask it: calls would wait one after the
	// other for what has just not answered.
	redisPause = time.Second
	// ownSubjects bounds the addresses and accounts that a replica counts by itself: 10 MB.
	ownSubjects = 50_000
)

// ErrImpatient says that Redis was not asked, because it has not answered a moment ago.
var ErrImpatient = errors.New("no answer from Redis of late")

// Detach returns a context for what must still be done though the caller may be gone: it lasts DetachTime.
func Detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), DetachTime)
}

// Redis remembers whether Redis has answered of late. Use New.
type Redis struct {
	log         *slog.Logger
	shared      *ratelimit.GCRA
	own         *ratelimit.Local
	pausedUntil atomic.Int64 // on the machine's clock, in nanoseconds
}

// NewRedis returns one for a replica: rates are those of all replicas, now is the clock by which the replica counts alone.
func NewRedis(rates *ratelimit.GCRA, log *slog.Logger, now func() time.Time) (*Redis, error) {
	own, err := ratelimit.NewLocal(ratelimit.LocalConfig{Subjects: ownSubjects, Now: now})
	if err != nil {
		return nil, fmt.Errorf("count in memory: %w", err)
	}
	return &Redis{log: log, shared: rates, own: own}, nil
}

// clock is the machine's, by which contexts and timers end.
func clock() int64 {
	return time.Now().UnixNano() //nolint:forbidigo // see above
}

// Ask runs a step in Redis that the call can be answered without. It returns an error when Redis does not answer soon.
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

// Allow counts a call by the rate, in this replica alone while Redis does not answer. It counts there at all times: when
// Redis stops in the middle of a burst nothing is forgotten. A *ratelimit.LimitedError says that the limit was reached.
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

// Tidy begins work in Redis that the ledger makes superfluous, and returns a function that waits for it, but not for a
// Redis that does not answer. The work goes on for DetachTime at most.
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
