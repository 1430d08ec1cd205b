package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const changesScope = "ChangePassword of an account"

// changesRate bounds what one account can make the service keep, see internal/revoke, and the mails that tell of changes.
func changesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 30} }

// Rule refuses a new password; field is the request's name for it, and words
// are the account's own.
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
	case errors.Is(err, password.ErrTooShort):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_SHORT",
			fmt.Sprintf("must have at least %d characters", a.cfg.Policy.MinLength))
	case errors.Is(err, password.ErrTooLong):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_LONG",
			fmt.Sprintf("must have at most %d characters", password.MaxLength))
	}
	return fmt.Errorf("check the password: %w", err)
}

// HashClaim is for whom a request has passwords hashed. Known says that the client has
// shown what only an account's owner was given: a live session, a device's or a
// reset's token.
func HashClaim(ctx context.Context, known bool) password.Claim {
	c := caller.From(ctx)
	return password.Claim{Network: c.Network(), Address: c.Site(), Known: known}
}

// HashError wraps an error of the hasher. A deadline that passed in its queue is an
// overload: trying again at once would only make it longer.
func HashError(doing string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = &password.OverloadedError{RetryAfter: time.Second}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ChangePassword sets a new password by the authority of a session, whose other sessions it ends, and returns the
// password's epoch. The access token alone is not
// enough: a thief who holds one must not get the account for good, so the current
// password is asked for, and guesses at it are counted.
func (a *Accounts) ChangePassword(ctx context.Context, by revoke.Authority, current, chosen string) (epoch int64, err error) {
	row, err := a.queries.FindUser(ctx, a.cfg.Pool, by.UserID)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, refusal.AccountGone()
	}
	if err != nil {
		return 0, fmt.Errorf("look the account up: %w", err)
	}
	verified := Credential{User: FromRow(row), Hash: row.PasswordHash, Lookup: address.Lookup(row.Email)}
	if err := a.CheckPassword("new_password", chosen, passwordContext(row.Email, row.FirstName, row.LastName)); err != nil {
		return 0, err
	}
	if err := a.cfg.Guesses.CheckCurrent(ctx, by.SessionID, verified, current); err != nil {
		return 0, err
	}
	hash, err := a.cfg.Passwords.Hash(ctx, HashClaim(ctx, true), chosen)
	if err != nil {
		return 0, HashError("hash the password", err)
	}
	// Limits the changes by somebody who knows the password. What the change would end can still be ended by
	// RevokeOtherSessions.
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
	// The change has begun a new epoch; a row that plain SQL changes at this moment makes the token one of an older.
	epoch, err = a.queries.FindPasswordEpoch(ctx, a.cfg.Pool, by.UserID)
	if err != nil {
		return 0, fmt.Errorf("read the password's epoch: %w", err)
	}
	return epoch, nil
}

// replacePassword sets the hash if the one that was verified is still there: whoever
// knew an older password, or the same one under a hash that a login has just
// rewritten, is asked again. The address stays as verified as it was.
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
