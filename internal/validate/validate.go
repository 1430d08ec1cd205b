// Package validate decides whether an access token is good. It checks the signature, the times, the account and the
// ledger. It uses memory as long as this replica can prove that its memory has every revocation that is final, and
// PostgreSQL otherwise.
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

// untrustedValidations is how many validations may ask PostgreSQL at the same time while memory is not trusted. More of
// them would take the connections that logins and revocations need.
const untrustedValidations = 8

// Config has the settings of a Validator. All fields are required.
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
	untrusted chan struct{} // has one value for each validation that asks PostgreSQL
	inStore   atomic.Int64
}

// New returns a Validator.
func New(cfg Config) *Validator {
	return &Validator{cfg: cfg, queries: db.New(), untrusted: make(chan struct{}, untrustedValidations)}
}

// InStore returns how many validations asked PostgreSQL, because memory was not trusted.
func (v *Validator) InStore() int64 { return v.inStore.Load() }

// Purpose is what an access token is used for. A service that gets a user's token could use it here to end the user's
// sessions. With LATCHKEY_ACCOUNT_AUDIENCE, tokens for services have another audience than tokens for the account, and
// only the latter can do that.
type Purpose bool

const (
	// ForServices is the purpose of tokens that clients send to services.
	ForServices Purpose = false
	// ForAccount is the purpose of tokens for methods of AUTH_CLASS_SESSION.
	ForAccount Purpose = true
)

// Verdict is the result of Validate. If it has a Reason, the token is not good, and all other fields but Misused are
// zero.
type Verdict struct {
	Reason latchkeyv1.ErrorReason
	// Misused is true if the token is genuine, but for another purpose.
	Misused bool
	// User is the account. All verdicts about it share it, so do not change it.
	User *latchkeyv1.User
	// Claims are those of the token, KeyID the key that signed it. Do not change them.
	Claims *accesstoken.Claims
	KeyID  string
	// SessionID and ExpireTime are those of Claims, in the form of the contract. Do not change them.
	SessionID  string
	ExpireTime *timestamppb.Timestamp
}

func refused(reason latchkeyv1.ErrorReason) (Verdict, error) { return Verdict{Reason: reason}, nil }

// Validate checks the signature and the times, then the account, then the ledger. It returns an error if it cannot
// decide.
//
// It checks the lease first: then memory has every revocation that was final when the call began. It may miss one that
// is committed during the call, and then either answer is right.
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

// fits returns whether the token is for the purpose. Without LATCHKEY_ACCOUNT_AUDIENCE, each token is for both.
func (v *Validator) fits(shown *verified, purpose Purpose) bool {
	return shown.forAccount == (purpose == ForAccount && v.cfg.Keyring.SeparatesAccounts())
}

// validateInStore asks the primary, which always has every revocation. Only a few validations do so at the same time:
// if all replicas lose their leases at once, PostgreSQL is probably overloaded.
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
