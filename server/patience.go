package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

const (
	// redisPatience is how long a call waits for Redis in all steps that can be done
	// without: each takes less than a millisecond as a rule.
	redisPatience = 50 * time.Millisecond
	// redisPause is how long such steps then do not ask it: calls would wait one after the
	// other for what has just not answered.
	redisPause = time.Second
	// ownSubjects bounds the addresses and accounts that a replica counts by itself: 10 MB.
	ownSubjects = 50_000
)

// patience is whether Redis has answered of late.
type patience struct{ pausedUntil atomic.Int64 }

// now is the machine's clock, by which the patience ends, in nanoseconds.
func (*patience) now() int64 {
	return time.Now().UnixNano() //nolint:forbidigo // contexts and timers end by the machine's clock
}

func (p *patience) over() bool { return p.now() < p.pausedUntil.Load() }

func (p *patience) lose() { p.pausedUntil.Store(p.now() + int64(redisPause)) }

// errImpatient: Redis was not asked, because it has not answered a moment ago.
var errImpatient = errors.New("no answer from Redis of late")

// ask is for a step in Redis that the call can be answered without. It is an error when
// Redis does not answer soon.
func (p *patience) ask(ctx context.Context, step func(context.Context) error) error {
	if p.over() {
		return errImpatient
	}
	soon, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	err := step(soon)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		p.lose()
	}
	return err
}

// allowSoon is Allow of the rates, and counts in this replica alone while Redis
// does not answer. It counts there at all times: when Redis stops in the middle of a
// burst nothing is forgotten.
func (s *Server) allowSoon(ctx context.Context, scope, subject string, rate ratelimit.Rate) error {
	if err := s.ownRates.Allow(scope, subject, rate); err != nil {
		return err
	}
	err := s.patience.ask(ctx, func(ctx context.Context) error { return s.cfg.Rates.Allow(ctx, scope, subject, rate) })
	if errors.Is(err, ratelimit.ErrUnavailable) || errors.Is(err, errImpatient) {
		return nil
	}
	return err
}

// tidy begins work in Redis that the ledger makes superfluous, and returns what waits
// for it, but not for a Redis that does not answer. The work goes on.
func (s *Server) tidy(ctx context.Context, work func(context.Context)) (wait func()) {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	go func() {
		defer close(done)
		defer cancel()
		if err := recovering(func() { work(ctx) }); err != nil {
			s.log.ErrorContext(ctx, "internal error", "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
		}
	}()
	return func() {
		_ = s.patience.ask(ctx, func(ctx context.Context) error {
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
}

func recovering(work func()) (err error) {
	defer recovered(&err)
	work()
	return nil
}
