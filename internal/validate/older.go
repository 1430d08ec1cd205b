package validate

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// forgottenMargin allows for the clock of the backend that issued a token: its "iat" is compared with a time of
// PostgreSQL.
const forgottenMargin = 2 * time.Minute

// Older is the hook for access tokens of the older backends.
type Older interface {
	// Verify returns the token if its signature and form are right. The errors are those of signing.Keyring.
	Verify(ctx context.Context, accessToken string) (*OlderToken, error)
}

// OlderToken is a token of an older backend. Its claims carry the position that the hook found for the time at which
// the token was issued, or 0, which every revocation of the account refuses. One that names the session refuses it
// always.
type OlderToken struct {
	Claims *accesstoken.Claims
	// KeyID names the key that signed it, or is "" if the service does not know the key.
	KeyID string
	// Refresh is true if it is a refresh token. That never changes.
	Refresh bool
	// Issued is "iat", or the zero time if the token does not say.
	Issued time.Time
}

func (c *Cache) verifyOlder(ctx context.Context, accessToken string) (*verified, error) {
	found, err := c.cfg.Older.Verify(ctx, accessToken)
	if err != nil {
		return nil, err
	}
	return &verified{
		claims: found.Claims, keyID: found.KeyID, session: found.Claims.SessionID.String(),
		expire: timestamppb.New(found.Claims.ExpireTime), older: found,
	}, nil
}

// stillGood checks what may have changed since the token was verified.
func (c *Cache) stillGood(v *verified) bool {
	return v.older != nil || c.cfg.Keyring.Has(v.keyID)
}

// inTime compares a token with the clock. The expiry of a token of an older backend is never after the date until which
// such tokens are accepted.
func (v *verified) inTime(now time.Time) (*verified, error) {
	if !now.Before(v.claims.ExpireTime) {
		return nil, accesstoken.ErrExpired
	}
	if v.older != nil && v.older.Refresh {
		return nil, fmt.Errorf("%w: a refresh token", accesstoken.ErrInvalid)
	}
	return v, nil
}

// Forgotten returns whether the ledger may have deleted a row that would refuse a token of an older backend that was
// issued at this time: the token may be older than the oldest row.
func (v *Validator) Forgotten(issued time.Time) (bool, error) {
	until, known := v.cfg.Ledger.Forgotten()
	if !known {
		return false, refusal.NotUpToDate()
	}
	return !until.IsZero() && !issued.After(until.Add(forgottenMargin)), nil
}
