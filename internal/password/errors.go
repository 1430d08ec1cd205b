package password

import (
	"errors"
	"fmt"
	"time"
)

// ErrOverloaded is wrapped by every *OverloadedError.
var ErrOverloaded = errors.New("too many passwords are being checked")

// OverloadedError says that a call was turned away before any hashing: the queue is full, or the work ahead would not
// leave time to finish before the caller's deadline.
type OverloadedError struct {
	// RetryAfter is when there will be a place for the caller, in whole milliseconds, from 1 s to 30 s: the time until
	// the work that is ahead now will be done, and until those who were turned away before have come back.
	RetryAfter time.Duration
}

// Error says when to try again.
func (e *OverloadedError) Error() string {
	return fmt.Sprintf("%v: try again in %v", ErrOverloaded, e.RetryAfter)
}

// Unwrap makes errors.Is(err, ErrOverloaded) hold.
func (e *OverloadedError) Unwrap() error {
	return ErrOverloaded
}
