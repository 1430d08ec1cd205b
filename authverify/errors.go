package authverify

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalid reports a token that is not an access token of the issuer for
	// this audience. The text around it says what kind of check failed, for logs;
	// it quotes nothing of the token.
	ErrInvalid = errors.New("access token: invalid")
	// ErrExpired reports a genuine token that is past its time and wrong in no
	// other way: refresh and try again.
	ErrExpired = errors.New("access token: expired")
	// ErrRevoked reports a genuine token whose session was logged out or revoked:
	// log in again.
	ErrRevoked = errors.New("access token: revoked")
	// ErrUnavailable reports that nobody can tell at present: revocations are not
	// up to date, or the keys could not be fetched. A later call may succeed.
	ErrUnavailable = errors.New("access token: cannot be checked at present")
	// ErrAlgorithm reports an algorithm that is not on the allow list.
	ErrAlgorithm = errors.New("access token: unsupported signature algorithm")
	// ErrKey reports a public key that no token is checked with, or a set of keys
	// that cannot be read.
	ErrKey = errors.New("access token: unusable key")
	// ErrClaims reports claims that no token may carry, because it would be refused.
	ErrClaims = errors.New("access token: unusable claims")
)

// invalid returns ErrInvalid with a reason that names a check, never a value.
func invalid(reason string) error {
	return fmt.Errorf("%w: %s", ErrInvalid, reason)
}
