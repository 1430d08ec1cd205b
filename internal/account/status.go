package account

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// Suspend ends all sessions of an account and lets nobody log in to it. An account that does not exist is refused.
func (a *Accounts) Suspend(ctx context.Context, id uuid.UUID) (User, error) {
	return a.setActive(ctx, id, false, audit.UserSuspended)
}

// Reactivate lets the owner of a suspended account log in again. It appends too: what caches
// know of the account is out of date.
func (a *Accounts) Reactivate(ctx context.Context, id uuid.UUID) (User, error) {
	return a.setActive(ctx, id, true, audit.UserReactivated)
}

func (a *Accounts) setActive(ctx context.Context, id uuid.UUID, active bool, kind audit.Kind) (User, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (User, revoke.Ended, error) {
		return a.ChangeStatus(ctx, tx, id, active, kind)
	})
}

// ChangeStatus is Suspend or Reactivate up to the wait. It returns the account as it is then, and what was ended. When the status is what was asked for already,
// another call may still be waiting for its row to become final: the head that is read here, after the lock, is at or past
// that row, and is waited for instead.
func (a *Accounts) ChangeStatus(ctx context.Context, tx pgx.Tx, id uuid.UUID, active bool, kind audit.Kind) (User, revoke.Ended, error) {
	user, err := a.lock(ctx, tx, id)
	if err != nil {
		return user, revoke.Ended{}, err
	}
	if user.Active == active {
		head, err := a.cfg.Revoker.Head(ctx, tx)
		return user, head, err
	}
	row, err := a.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: id, IsActive: active})
	if err != nil {
		return user, revoke.Ended{}, fmt.Errorf("change the account's status: %w", err)
	}
	ended, err := a.cfg.Revoker.AppendUser(ctx, tx, kind, id)
	return FromRow(row), ended, err
}
