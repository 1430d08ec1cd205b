package session

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Errors that callers tell apart with errors.Is. None of them carries a token, a MAC or a key.
var (
	// ErrInvalid is the parent of ErrMalformed and ErrForged: no refresh token that this service issued.
	ErrInvalid = errors.New("session: invalid refresh token")
	// ErrMalformed says that the text is not a refresh token at all. Nothing was looked up.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrInvalid)
	// ErrForged says that the text has the form of a refresh token, and that its MAC is wrong or was made with a key
	// that is no longer accepted.
	ErrForged = fmt.Errorf("%w: wrong authentication code", ErrInvalid)

	// ErrUnknown is what every *UnknownError is: the store has no such session.
	ErrUnknown = errors.New("session: unknown session")
	// ErrReused says that a spent token came back. Someone else holds a copy: revoke the session.
	ErrReused = errors.New("session: refresh token reused")
	// ErrLate says that a token two generations behind came back within the grace: a request that was overtaken on its
	// way. Refuse it, and leave the session alone.
	ErrLate = errors.New("session: refresh token overtaken by newer ones")
	// ErrEnded says that the idle or the absolute end of the session has passed.
	ErrEnded = errors.New("session: session ended")

	// ErrUnavailable wraps every failure of Redis, a cancelled or timed out context included. Whether a write took
	// effect is unknown then; repeating the call is safe.
	ErrUnavailable = errors.New("session: store unavailable")

	// errClock says that the clock is outside the times that the scripts can compute with.
	errClock = errors.New("session: the clock is before 1970 or too far in the future")
)

// UnknownError says that a well-formed refresh token names a session that the store does not have, or not any more.
// The token's MAC could not be checked, as the salt went with the session: SessionID is a claim, not a fact.
type UnknownError struct {
	// SessionID is the session that the token names.
	SessionID uuid.UUID
}

// Error implements error.
func (e *UnknownError) Error() string { return ErrUnknown.Error() }

// Unwrap makes every UnknownError an ErrUnknown.
func (e *UnknownError) Unwrap() error { return ErrUnknown }

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
