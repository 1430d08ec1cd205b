// Package ratelimit has two limiters whose state is in Redis, shared by all replicas: Attempts counts failures per
// account, exactly and also under parallel calls; GCRA smooths the rate of calls per network address.
//
// Each decision is one script on one key. The time is the caller's, so that tests can set it and replicas behave the
// same whichever clock Redis has; only the expiry of keys, which is relative, runs on the clock of Redis.
//
// When Redis fails, both say so and decide nothing: callers refuse, or a Redis that is down would lift every limit. For
// calls that must pass all the same, Local is GCRA in this process's memory.
package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnavailable wraps every failure of Redis, a cancelled or timed out context included.
var ErrUnavailable = errors.New("ratelimit: store unavailable")

// errClock says that the clock is outside the times that the scripts can compute with.
var errClock = errors.New("ratelimit: the clock is before 1970 or too far in the future")

// maxClock bounds the clock in the unit of the limiter. The numbers of Redis scripts are doubles, exact up to 2^53:
// this leaves half for what is added. In microseconds it is the year 2112.
const maxClock = 1 << 52

// maxSpan bounds the times that can be configured, far below what maxClock leaves.
const maxSpan = 366 * 24 * time.Hour

// LimitedError says that a limit was reached.
type LimitedError struct {
	// RetryAfter is how long to wait before a call can pass, above zero. Another call may still come first.
	RetryAfter time.Duration
}

// Error implements error.
func (e *LimitedError) Error() string {
	return fmt.Sprintf("ratelimit: limit reached, retry in %v", e.RetryAfter)
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
