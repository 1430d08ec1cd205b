// Package ratelimit has two limiters that store their state in Redis, so that all replicas share it. Attempts counts
// the failures of each account, exactly, also with parallel calls. GCRA limits the rate of calls from each network
// address.
//
// Each decision is one script on one key. The script uses the time of the caller, so that tests can set it, and the
// clock of Redis does not matter. Only the expiry of keys, which is relative, uses the clock of Redis.
//
// If Redis fails, both return ErrUnavailable and decide nothing. Callers must refuse: otherwise a Redis that is down
// would remove every limit. For calls that must pass even then, Local is a GCRA in the memory of this process.
package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnavailable wraps every failure of Redis, and a context that was cancelled or has timed out.
var ErrUnavailable = errors.New("ratelimit: store unavailable")

// errClock means that the clock is outside the range in which the scripts can calculate.
var errClock = errors.New("ratelimit: the clock is before 1970 or too far in the future")

// maxClock is the latest time of the clock, in the unit of the limiter. The numbers of Redis scripts are doubles, which
// are exact up to 2^53, so sums may be twice as large. In microseconds it is in the year 2112.
const maxClock = 1 << 52

// maxSpan is the longest duration of a setting. It is much shorter than what maxClock leaves.
const maxSpan = 366 * 24 * time.Hour

// LimitedError means that a limit was reached.
type LimitedError struct {
	// RetryAfter is how long to wait until a call can pass, more than zero. Another call may still take that place.
	RetryAfter time.Duration
}

// Error implements error.
func (e *LimitedError) Error() string {
	return fmt.Sprintf("ratelimit: limit reached, retry in %v", e.RetryAfter)
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
