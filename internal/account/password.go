package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const changesScope = "ChangePassword of an account"

// changesRate limits the rows that one account can make the service store (see internal/revoke), and the mails about
// changes.
func changesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 30} }

// Rule refuses a new password. field is the name of the password in the request, words are words from the account.
type Rule func(field, candidate string, words []string) error

// CheckPassword is the Rule of latchkey.v1.
func (a *Accounts) CheckPassword(field, candidate string, words []string) error {
	err := a.cfg.Policy.Check(candidate, words...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, password.ErrTooCommon):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_PASSWORD_TOO_COMMON, field, "PASSWORD_TOO_COMMON",
			"is built as the passwords that are tried first are: common words, names, the account's own or the service's, or patterns, "+
				"with digits, years, marks or substitutions; choose another, such as four words that have nothing to do with each other")
	case errors.Is(err, password.ErrBreached):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_PASSWORD_TOO_COMMON, field, "PASSWORD_BREACHED",
			"was in a leak of passwords of another service, and such passwords are tried first; choose one that you have used nowhere, "+
				"such as four words that have nothing to do with each other")
	case errors.Is(err, password.ErrTooShort):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_SHORT",
			fmt.Sprintf("must have at least %d characters", a.cfg.Policy.MinLength))
	case errors.Is(err, password.ErrTooLong):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_LONG",
			fmt.Sprintf("must have at most %d characters", password.MaxLength))
	}
	return fmt.Errorf("check the password: %w", err)
}

// HashClaim returns for which client a request needs a password hashed. known means that the client has shown something
// that only the owner of an account was given: a live session, a device token or a reset token.
func HashClaim(ctx context.Context, known bool) password.Claim {
	c := caller.From(ctx)
	return password.Claim{Network: c.Network(), Address: c.Site(), Known: known}
}

// HashError wraps an error of the hasher. If the deadline passed in the hasher's queue, the hasher is overloaded: a
// client that tries again at once would only make the queue longer.
func HashError(doing string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = &password.OverloadedError{RetryAfter: time.Second}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ChangePassword sets a new password on the authority of a session, ends the other sessions of the account, and returns
// the epoch of the password. The access token alone is not enough: a thief who has one must not get the account for
// good. So ChangePassword asks for the current password, and counts guesses at it.
func (a *Accounts) ChangePassword(ctx context.Context, by revoke.Authority, current, chosen string) (epoch int64, err error) {
	verified, err := FindOwner(ctx, a.cfg.Pool, by.UserID)
	if err != nil {
		return 0, err
	}
	if err := a.CheckPassword("new_password", chosen, passwordContext(verified.Email, verified.FirstName, verified.LastName)); err != nil {
		return 0, err
	}
	if err := a.cfg.Guesses.CheckCurrent(ctx, by.SessionID, verified, current); err != nil {
		return 0, err
	}
	hash, err := a.cfg.Passwords.Hash(ctx, HashClaim(ctx, true), chosen)
	if err != nil {
		return 0, HashError("hash the password", err)
	}
	// This limits the changes of somebody who knows the password. If it refuses, RevokeOtherSessions can still end the
	// other sessions.
	if err := a.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return 0, err
	}
	err = a.cfg.Revoker.Sessions(ctx, by, revoke.Ending{
		Except: by.SessionID, Kind: audit.PasswordChanged,
		Change: func(ctx context.Context, tx pgx.Tx) error { return a.replacePassword(ctx, tx, verified, hash) },
	})
	if err != nil {
		return 0, err
	}
	// The change has begun a new epoch. If plain SQL changes the row at this moment, the device token gets an epoch
	// that is already over.
	epoch, err = a.queries.FindPasswordEpoch(ctx, a.cfg.Pool, by.UserID)
	if err != nil {
		return 0, fmt.Errorf("read the password's epoch: %w", err)
	}
	return epoch, nil
}

// replacePassword sets the hash if the hash that was verified is still stored. Otherwise it refuses: the caller knew an
// older password, or a login has just rewritten the hash of the same one, and the caller tries again. It does not
// change whether the address is verified.
func (a *Accounts) replacePassword(ctx context.Context, tx pgx.Tx, verified Credential, hash string) error {
	changed, err := a.queries.ChangePassword(ctx, tx, db.ChangePasswordParams{
		ID: verified.ID, OldHash: verified.Hash, NewHash: hash,
	})
	if err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	if changed == 0 {
		return refusal.CurrentPassword()
	}
	return a.cfg.Mailer.Notify(ctx, tx, mail.PasswordChanged, verified.ID, caller.From(ctx).TraceID)
}
