package validate

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// forgottenMargin is for the clock of the backend that issued a token: "iat" is held
// against a time of PostgreSQL's.
const forgottenMargin = 2 * time.Minute

// Older is the hook for access tokens of the older backends.
type Older interface {
	// Verify returns what a token says whose signature and form are right. The errors are those of signing.Keyring.
	Verify(ctx context.Context, accessToken string) (*OlderToken, error)
}

// OlderToken is a token of an older backend. Its claims carry the position that the hook found for the time at which the
// token was issued, or 0, which every revocation of the account refuses. One that names the session refuses it always.
type OlderToken struct {
	Claims *accesstoken.Claims
	// KeyID is that of the key that has signed it, where the service knows the key; "" elsewhere.
	KeyID string
	// Refresh: it is a refresh token, and will always be one.
	Refresh bool
	// Issued is "iat", the zero time when the token does not say.
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

// stillGood is what of a token that was verified may have changed since.
func (c *Cache) stillGood(v *verified) bool {
	return v.older != nil || c.cfg.Keyring.Has(v.keyID)
}

// inTime checks a token against the clock. Of one of an older backend the time of
// its expiry is no later than the end of all acceptance.
func (v *verified) inTime(now time.Time) (*verified, error) {
	if !now.Before(v.claims.ExpireTime) {
		return nil, accesstoken.ErrExpired
	}
	if v.older != nil && v.older.Refresh {
		return nil, fmt.Errorf("%w: a refresh token", accesstoken.ErrInvalid)
	}
	return v, nil
}

// Forgotten says whether the ledger may have lost what refuses a token of an older
// backend that was issued then: it may be older than the oldest row.
func (v *Validator) Forgotten(issued time.Time) (bool, error) {
	until, known := v.cfg.Ledger.Forgotten()
	if !known {
		return false, refusal.NotUpToDate()
	}
	return !until.IsZero() && !issued.After(until.Add(forgottenMargin)), nil
}
