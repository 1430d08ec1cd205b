package ratelimit

import (
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
)

// LocalConfig has what NewLocal needs.
type LocalConfig struct {
	// Subjects is how many subjects are remembered, at about 200 bytes each. If there are more, those that were seen
	// least are forgotten, and start again at zero. 1 or more.
	Subjects int
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Local is a GCRA in the memory of this process, for calls that must not wait for a Redis that does not answer. Each
// replica allows the whole rate. It is safe for concurrent use.
type Local struct {
	now      func() time.Time
	arrivals *otter.Cache[string, int64] // microseconds, as in gcra.lua
}

// NewLocal returns a limiter. Its error names the field of cfg that is wrong.
func NewLocal(cfg LocalConfig) (*Local, error) {
	if cfg.Subjects < 1 {
		return nil, errors.New("ratelimit: LocalConfig.Subjects is 1 or more")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	arrivals, err := otter.New(&otter.Options[string, int64]{MaximumSize: cfg.Subjects})
	if err != nil {
		return nil, fmt.Errorf("ratelimit: memory: %w", err)
	}
	return &Local{now: cfg.Now, arrivals: arrivals}, nil
}

// Allow does the same as that of GCRA. It has the same errors except ErrUnavailable.
func (l *Local) Allow(scope, subject string, rate Rate) error {
	interval, err := rate.interval()
	if err != nil {
		return err
	}
	now := l.now().UnixMicro()
	if now < 0 || now > maxClock {
		return errClock
	}
	tolerance := interval * (int64(rate.Burst) - 1)
	var wait int64
	l.arrivals.Compute(scope+" "+subject, func(arrival int64, _ bool) (int64, otter.ComputeOp) {
		arrival = max(arrival, now)
		if wait = arrival - now - tolerance; wait > 0 {
			return 0, otter.CancelOp
		}
		return arrival + interval, otter.WriteOp
	})
	if wait > 0 {
		return &LimitedError{RetryAfter: time.Duration(wait) * time.Microsecond}
	}
	return nil
}
