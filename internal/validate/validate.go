// Package validate says whether an access token is good: its signature, its times, its account and the ledger. It answers
// from memory while this replica can prove that its memory has every revocation that is final, and asks PostgreSQL else.
package validate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// untrustedValidations are those that ask PostgreSQL at once, while memory is not
// trusted. More would take the connections of logins and revocations.
const untrustedValidations = 8

// Config is what a Validator works with. All fields are required.
type Config struct {
	Pool    *pgxpool.Pool
	Keyring *signing.Keyring
	// Ledger is followed by Cache.
	Ledger *ledger.Ledger
	Cache  *Cache
	// Now is the clock.
	Now func() time.Time
}

// Validator validates access tokens. Use New.
type Validator struct {
	cfg       Config
	queries   *db.Queries
	untrusted chan struct{} // holds a token for each validation that asks PostgreSQL
	inStore   atomic.Int64
}

// New returns a Validator.
func New(cfg Config) *Validator {
	return &Validator{cfg: cfg, queries: db.New(), untrusted: make(chan struct{}, untrustedValidations)}
}

// InStore counts the validations that asked PostgreSQL, because memory was not trusted.
func (v *Validator) InStore() int64 { return v.inStore.Load() }

// Purpose is what an access token is shown for. A service that is shown one could show
// it here in its turn and end its owner's sessions, so that the two can be told apart by
// their audience (LATCHKEY_ACCOUNT_AUDIENCE).
type Purpose bool

const (
	// ForServices is the purpose of tokens that services are shown.
	ForServices Purpose = false
	// ForAccount is that of tokens for methods of AUTH_CLASS_SESSION.
	ForAccount Purpose = true
)

// Verdict is what was found of an access token. With a Reason it is not good, and all other fields but Misused are zero.
type Verdict struct {
	Reason latchkeyv1.ErrorReason
	// Misused: the token is genuine, for another purpose.
	Misused bool
	// User is the account, shared by all who hold the verdict: do not change it.
	User *latchkeyv1.User
	// Claims are the token's, KeyID what has signed it. Do not change them.
	Claims *accesstoken.Claims
	KeyID  string
	// SessionID and ExpireTime are those of Claims, in the form of the contract. Do not change them.
	SessionID  string
	ExpireTime *timestamppb.Timestamp
}

func refused(reason latchkeyv1.ErrorReason) (Verdict, error) { return Verdict{Reason: reason}, nil }

// Validate checks the signature and times, then the account, then the ledger. An
// error means that it could not be found out.
//
// The lease is looked at first: memory then holds every revocation that was final
// when the call began. One that comes while it looks may be missed, which is right
// either way.
func (v *Validator) Validate(ctx context.Context, accessToken string, purpose Purpose) (Verdict, error) {
	trusted := v.cfg.Ledger.Trusted()
	shown, err := v.cfg.Cache.verify(ctx, v.cfg.Now(), accessToken)
	switch {
	case errors.Is(err, accesstoken.ErrInvalid):
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	case errors.Is(err, accesstoken.ErrExpired):
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
	case err != nil:
		return Verdict{}, fmt.Errorf("verify the access token: %w", err)
	}
	if !v.fits(shown, purpose) {
		return Verdict{Reason: latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID, Misused: true}, nil
	}
	if shown.older != nil {
		switch forgotten, err := v.Forgotten(shown.older.Issued); {
		case err != nil:
			return Verdict{}, err
		case forgotten:
			return refused(latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
		}
	}
	if !trusted {
		return v.validateInStore(ctx, shown)
	}
	if v.cfg.Ledger.RefusesKey(shown.keyID) {
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	}
	found, err := v.cfg.Cache.owner(ctx, shown.claims.UserID)
	if err != nil {
		return Verdict{}, err
	}
	revoked := v.cfg.Ledger.Refuses(shown.claims.UserID, shown.claims.SessionID, shown.claims.Position, shown.keyID)
	return judge(shown, found, revoked)
}

// fits says whether the token is for the purpose. Where audiences are not told apart,
// all tokens are for both.
func (v *Validator) fits(shown *verified, purpose Purpose) bool {
	return shown.forAccount == (purpose == ForAccount && v.cfg.Keyring.SeparatesAccounts())
}

// validateInStore asks the primary, which knows everything at any time. A few at a
// time: when all replicas lose their leases at once, PostgreSQL is hardly well.
func (v *Validator) validateInStore(ctx context.Context, shown *verified) (Verdict, error) {
	select {
	case v.untrusted <- struct{}{}:
		defer func() { <-v.untrusted }()
	default:
		return Verdict{}, refusal.NotUpToDate()
	}
	v.inStore.Add(1)
	found, err := v.queries.FindUserForSession(ctx, v.cfg.Pool, db.FindUserForSessionParams{
		UserID: shown.claims.UserID, SessionID: shown.claims.SessionID, Position: shown.claims.Position, KeyID: shown.keyID,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return judge(shown, nil, true)
	case err != nil:
		return Verdict{}, fmt.Errorf("look the account up: %w", err)
	case found.KeyRevoked:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	}
	return judge(shown, newOwner(found.User), found.Revoked)
}

func judge(shown *verified, found *owner, revoked bool) (Verdict, error) {
	switch {
	case found == nil:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND)
	case !found.active:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED)
	case revoked:
		return refused(latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	}
	return Verdict{
		User: found.message, Claims: shown.claims, KeyID: shown.keyID, SessionID: shown.session, ExpireTime: shown.expire,
	}, nil
}
