package login

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// Accounts is what a login asks of accounts beside the password. An account.Accounts is one.
type Accounts interface {
	// LeavesAt returns when an account will be deleted, or zero if it is not to be deleted, or cannot be kept any more.
	LeavesAt(ctx context.Context, id uuid.UUID) (time.Time, error)
	// Keep cancels the deletion, and returns the position for the session of its owner.
	Keep(ctx context.Context, id uuid.UUID, position int64) (int64, error)
	// UseLoginCode spends a mailed code.
	UseLoginCode(ctx context.Context, token, code string) (account.CodeLogin, error)
}

// refuseDisabled refuses an account that is not active, unless it is to be deleted and its owner wants to keep it: then
// finish cancels the deletion, after all that the account asks for was shown. Use it only after the right password or
// passkey, since it says why the account is disabled.
func (f *Flow) refuseDisabled(ctx context.Context, user account.User, keep bool) error {
	if user.Active {
		return nil
	}
	until, err := f.cfg.Accounts.LeavesAt(ctx, user.ID)
	switch {
	case err != nil:
		return err
	case until.IsZero():
		return refusal.AccountDisabled()
	case !keep:
		return refusal.AccountLeaving(until)
	}
	return nil
}
