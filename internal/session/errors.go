package session

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Errors that callers tell apart with errors.Is. None of them carries a token, a MAC or a key.
var (
	// ErrInvalid means that this service did not issue the refresh token. ErrMalformed and ErrForged wrap it.
	ErrInvalid = errors.New("session: invalid refresh token")
	// ErrMalformed means that the text does not have the form of a refresh token. Redis was not asked.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrInvalid)
	// ErrForged means that the text has the form of a refresh token, but its MAC is wrong, or was made with a
	// key that is no longer accepted.
	ErrForged = fmt.Errorf("%w: wrong authentication code", ErrInvalid)

	// ErrUnknown means that Redis does not have the session. Every *UnknownError wraps it.
	ErrUnknown = errors.New("session: unknown session")
	// ErrReused means that a spent token was presented again: somebody else has a copy. Revoke the session.
	ErrReused = errors.New("session: refresh token reused")
	// ErrLate means that a token two generations behind was presented within the grace: the network delayed the
	// request. Refuse the token, and do not revoke the session.
	ErrLate = errors.New("session: refresh token overtaken by newer ones")
	// ErrEnded means that the idle or the absolute end of the session has passed.
	ErrEnded = errors.New("session: session ended")

	// ErrUnavailable wraps every failure of Redis, and a context that was cancelled or has timed out. A write
	// may or may not have happened. It is safe to call again.
	ErrUnavailable = errors.New("session: store unavailable")

	// errClock means that the clock is outside the range in which the scripts can calculate.
	errClock = errors.New("session: the clock is before 1970 or too far in the future")
)

// UnknownError means that a well-formed refresh token names a session that Redis does not have, or no longer
// has. The token could not be checked against the salt, which is in the session. So SessionID may be forged: of a
// short token by anybody, of a long one by somebody who knows the secret.
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
