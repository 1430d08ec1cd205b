package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// gcraLua decides on one call.
//
//go:embed gcra.lua
var gcraLua string

// Rate is how many calls are allowed per minute on average, and how many at once after a pause.
type Rate struct {
	// PerMinute is between 1 and 60,000,000.
	PerMinute uint32
	// Burst is from 1 to the number of calls that PerMinute allows in 366 days.
	Burst uint32
}

// interval returns the microseconds between two calls. It rounds up, so that there are never more calls than the rate
// allows.
func (r Rate) interval() (int64, error) {
	const minute = int64(time.Minute / time.Microsecond)
	perMinute := int64(r.PerMinute)
	if perMinute < 1 || perMinute > minute || r.Burst < 1 {
		return 0, fmt.Errorf("ratelimit: rate of %d a minute, %d at once: both are 1 or more, the rate at most %d",
			r.PerMinute, r.Burst, minute)
	}
	interval := (minute + perMinute - 1) / perMinute
	if interval*int64(r.Burst) > maxSpan.Microseconds() {
		return 0, fmt.Errorf("ratelimit: rate of %d a minute, %d at once: so many at once take over a year to earn",
			r.PerMinute, r.Burst)
	}
	return interval, nil
}

// GCRAConfig has what NewGCRA needs.
type GCRAConfig struct {
	Redis redis.UniversalClient
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// GCRA limits rates by the generic cell rate algorithm of ITU-T I.371: one number per subject, the theoretical arrival
// time of a call that keeps to the rate. A refused call costs nothing. It is safe for concurrent use.
type GCRA struct {
	redis  redis.UniversalClient
	now    func() time.Time
	script *redis.Script
}

// NewGCRA returns a limiter. Its error names the field of cfg that is wrong. It does not connect.
func NewGCRA(cfg GCRAConfig) (*GCRA, error) {
	if cfg.Redis == nil {
		return nil, errors.New("ratelimit: Redis is nil")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &GCRA{redis: cfg.Redis, now: cfg.Now, script: redis.NewScript(gcraLua)}, nil
}

// Allow counts one call of subject, a network address, within scope, such as the name of a method. Both are part of the
// key in Redis as they are. It returns nil if the call may continue. The errors are *LimitedError, ErrUnavailable, and
// those of a rate or a clock that is out of range.
func (g *GCRA) Allow(ctx context.Context, scope, subject string, rate Rate) error {
	interval, err := rate.interval()
	if err != nil {
		return err
	}
	now := g.now().UnixMicro()
	if now < 0 || now > maxClock {
		return errClock
	}
	tolerance := interval * (int64(rate.Burst) - 1)
	wait, err := g.script.Run(ctx, g.redis, []string{"latchkey:rate:" + scope + ":{" + subject + "}"},
		now, interval, tolerance).Int64()
	if err != nil {
		return unavailable("limit a rate", err)
	}
	if wait > 0 {
		return &LimitedError{RetryAfter: time.Duration(wait) * time.Microsecond}
	}
	return nil
}
