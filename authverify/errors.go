package authverify

import (
	"errors"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

var (
	// ErrInvalid reports a token that is not an access token of the issuer for this audience. The text around it
	// says what kind of check failed, for logs; it quotes nothing of the token.
	ErrInvalid = accesstoken.ErrInvalid
	// ErrExpired reports a genuine token that is past its time and wrong in no other way: refresh and try again.
	ErrExpired = accesstoken.ErrExpired
	// ErrRevoked reports a genuine token whose session was logged out or revoked: log in again.
	ErrRevoked = errors.New("access token: revoked")
	// ErrUnavailable reports that nobody can tell at present: revocations are not up to date, or the keys could
	// not be fetched. A later call may succeed.
	ErrUnavailable = errors.New("access token: cannot be checked at present")
)
