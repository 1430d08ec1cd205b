package authverify

import (
	"time"

	"github.com/google/uuid"
)

// Claims are what an access token says (RFC 9068, section 2.2). Times are whole seconds.
type Claims struct {
	// UserID is "sub", the account. Never the nil UUID.
	UserID uuid.UUID
	// SessionID is "sid". The nil UUID means that the token has no session, which only Config.Sessionless
	// allows.
	SessionID uuid.UUID
	// Position is "led": the position of the ledger, 0 or more, at which the user's status was read. Revocations
	// at higher positions refuse the token.
	Position int64
	// ID is "jti", never empty.
	ID string
	// ClientID is "client_id", never empty in a token.
	ClientID string
	// AuthTime is "auth_time": when the user was last authenticated, by a login or by Reauthenticate. Zero if the
	// token does not say.
	AuthTime time.Time
	// IssuedAt is "iat".
	IssuedAt time.Time
	// ExpireTime is "exp": the token is expired from this second on. It is after IssuedAt, by Config.MaxTTL at
	// most.
	ExpireTime time.Time
	// AMR is "amr": the methods of that authentication (RFC 8176), such as "pwd", or "pwd", "otp" and "mfa". May be empty.
	// All claims of one token share its elements: do not change them.
	AMR []string
	// ACR is "acr": "aal1" for one factor, "aal2" for two. Empty if the token does not say; then count one.
	ACR string
	// EmailVerified is "email_verified": whether the owner had proved the address of the account when the token was issued.
	// False if the token does not say.
	EmailVerified bool
}
