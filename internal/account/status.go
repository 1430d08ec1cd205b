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

// Suspend ends all sessions of an account and lets nobody log in to it. It refuses an id that no account has.
func (a *Accounts) Suspend(ctx context.Context, id uuid.UUID) (User, error) {
	return a.setActive(ctx, id, false, audit.UserSuspended)
}

// Reactivate lets the owner of a suspended account log in again. It appends a row too, because caches still have the
// account as suspended.
func (a *Accounts) Reactivate(ctx context.Context, id uuid.UUID) (User, error) {
	return a.setActive(ctx, id, true, audit.UserReactivated)
}

func (a *Accounts) setActive(ctx context.Context, id uuid.UUID, active bool, kind audit.Kind) (User, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (User, revoke.Ended, error) {
		return a.ChangeStatus(ctx, tx, id, active, kind)
	})
}

// ChangeStatus does the work of Suspend and Reactivate, except the wait. It returns the account after the change, and
// what was ended. If the account already has the wanted status, another call may still be waiting for its row to become
// final. The head is read here, after the lock, so it is at or past that row, and the caller waits for it instead.
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
