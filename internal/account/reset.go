package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// ForgotPassword asks for a reset link. It does the same one insert for every address, so that neither the answer nor
// its time reveals whether there is an account. The sender of mails looks the account up later.
func (a *Accounts) ForgotPassword(ctx context.Context, email string) error {
	later, err := a.admitRequest(ctx, "ForgotPassword", email)
	if err != nil {
		return err
	}
	return request(email, func(email string) error {
		return a.cfg.Mailer.RequestReset(ctx, a.mailRequest(ctx, email, later))
	})
}

// request queues a request for a mail to a typed address.
func request(email string, queue func(email string) error) error {
	err := queue(email)
	if errors.Is(err, mail.ErrAddress) { // for example because of a line break around it
		err = queue(bare(email))
	}
	if errors.Is(err, mail.ErrAddress) {
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "email", "EMAIL_FORM", "is not an address")
	}
	if err != nil {
		return fmt.Errorf("queue the mail: %w", err)
	}
	return nil
}

// admitRequest limits the requests that a method makes for mails: those of one network, for all addresses together, so
// that a flood of requests does not keep others waiting for their mails, and those of a network for one address. A
// network that has not asked lately is served first and is not part of the count for all networks, so that nobody can
// use up the share of others. later is true for every other network.
func (a *Accounts) admitRequest(ctx context.Context, method, email string) (later bool, err error) {
	source := caller.From(ctx).Source()
	if later, err = a.admitNetwork(ctx, method, source); err != nil {
		return false, fmt.Errorf("count the network's requests: %w", err)
	}
	// Each network has its own count: requests of other networks must not keep the owner from asking.
	subject := address.Lookup(bare(email)) + " " + source
	if method != "ForgotPassword" { // whose counters were named before there were others
		subject = method + " " + subject
	}
	if err := a.cfg.ResetRequests.Take(ctx, subject, source); err != nil {
		return false, fmt.Errorf("count the request: %w", err)
	}
	return later, nil
}

func (a *Accounts) admitNetwork(ctx context.Context, method, source string) (later bool, err error) {
	if a.cfg.Uncounted(ctx) {
		return false, nil
	}
	rates := a.cfg.Rates
	err = rates.Allow(ctx, method+"-first", source, ratelimit.Rate{PerMinute: 1, Burst: 3})
	if _, lately := errors.AsType[*ratelimit.LimitedError](err); !lately {
		return false, err
	}
	err = rates.Allow(ctx, method+"-network", source, ratelimit.Rate{PerMinute: 60, Burst: 120})
	if err != nil {
		return false, err
	}
	return true, rates.Allow(ctx, method+"-all", "all", ratelimit.Rate{PerMinute: 300, Burst: 600})
}

// ResetPassword sets a new password that meets the rule. The token is checked before the password is hashed, so that a
// guess costs no hash. It is spent in the transaction that changes the password, so that it is still good if the
// password is refused.
func (a *Accounts) ResetPassword(ctx context.Context, resetToken, newPassword string, rule Rule) error {
	user, spend, err := a.findReset(ctx, resetToken)
	if err != nil {
		return err
	}
	if err := rule("new_password", newPassword, passwordContext(user.Email, user.FirstName, user.LastName)); err != nil {
		return err
	}
	passwordHash, err := a.cfg.Passwords.Hash(ctx, HashClaim(ctx, true), newPassword)
	if err != nil {
		return HashError("hash the password", err)
	}
	_, err = revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		ended, err := a.resetPassword(ctx, tx, user.ID, passwordHash, spend.InTx)
		return struct{}{}, ended, err
	})
	if err != nil {
		return err
	}
	a.cfg.Redis.Tidy(ctx, func(ctx context.Context) {
		spend.Afterwards(ctx)
		if a.cfg.Older != nil {
			a.cfg.Older.DeleteFailures(ctx, user.Email)
		}
	})()
	return nil
}

// ResetSpending says how to spend a reset token.
type ResetSpending struct {
	// InTx spends it for one caller, after the account was locked.
	InTx func(ctx context.Context, tx pgx.Tx) error
	// Afterwards cleans up after the transaction.
	Afterwards func(ctx context.Context)
}

// findReset returns the account whose password the token may set, and how to spend the token.
func (a *Accounts) findReset(ctx context.Context, resetToken string) (User, ResetSpending, error) {
	resets := secrets{purpose: passwordReset(), now: a.cfg.Now}
	user, err := resets.find(ctx, a.cfg.Pool, nobody(), resetToken)
	switch {
	case errors.Is(err, errSecret) && a.cfg.Older != nil:
		return a.cfg.Older.FindReset(ctx, resetToken)
	case errors.Is(err, errSecret):
		return User{}, ResetSpending{}, refusal.ResetTokenInvalid()
	case err != nil:
		return User{}, ResetSpending{}, fmt.Errorf("look the reset token up: %w", err)
	}
	return user, ResetSpending{
		InTx: func(ctx context.Context, tx pgx.Tx) error {
			err := resets.spend(ctx, tx, owner{userID: user.ID, asker: nobody()}, resetToken)
			if errors.Is(err, errSecret) {
				return refusal.ResetTokenInvalid()
			}
			return err
		},
		Afterwards: func(context.Context) {},
	}, nil
}

// resetPassword spends the token, sets the password and ends all sessions, or does none of it. It locks the account's
// row first and the ledger's head last.
func (a *Accounts) resetPassword(
	ctx context.Context, tx pgx.Tx, userID uuid.UUID, passwordHash string, spend func(context.Context, pgx.Tx) error,
) (revoke.Ended, error) {
	account, err := a.queries.LockUser(ctx, tx, userID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !account.IsActive {
		return revoke.Ended{}, refusal.ResetTokenInvalid()
	}
	if err != nil {
		return revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
	}
	if err := spend(ctx, tx); err != nil {
		return revoke.Ended{}, err
	}
	if account.IsVerified {
		err = a.queries.SetPassword(ctx, tx, db.SetPasswordParams{ID: userID, PasswordHash: passwordHash})
	} else { // the mail proves the address, and nothing proves that the rest of the account is its owner's
		err = a.removePlanted(ctx, tx, userID, passwordHash)
	}
	if err != nil {
		return revoke.Ended{}, fmt.Errorf("set the password: %w", err)
	}
	err = a.queries.NoteReset(ctx, tx, db.NoteResetParams{
		UserID: userID, ResetAt: a.cfg.Now(),
		ResetNetwork: []byte(a.cfg.LoginFailures.SourceHash(caller.From(ctx).Source())),
	})
	if err != nil {
		return revoke.Ended{}, fmt.Errorf("note where the password was reset from: %w", err)
	}
	if err := a.cfg.Mailer.Notify(ctx, tx, mail.PasswordChanged, userID, caller.From(ctx).TraceID); err != nil {
		return revoke.Ended{}, err
	}
	return a.cfg.Revoker.AppendUser(ctx, tx, audit.PasswordReset, userID)
}
