package account

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
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
		if err := a.suspendMarked(ctx, tx, user, kind); err != nil {
			return user, revoke.Ended{}, err
		}
		head, err := a.cfg.Revoker.Head(ctx, tx)
		return user, head, err
	}
	if active {
		if err := a.noteKept(ctx, tx, id); err != nil {
			return user, revoke.Ended{}, err
		}
	}
	row, err := a.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: id, IsActive: active})
	if err != nil {
		return user, revoke.Ended{}, fmt.Errorf("change the account's status: %w", err)
	}
	ended, err := a.cfg.Revoker.AppendUser(ctx, tx, kind, id)
	return FromRow(row), ended, err
}

// suspendMarked notes the suspension of an account that is to be deleted, and so not active already: it stays suspended
// if the deletion is cancelled.
func (a *Accounts) suspendMarked(ctx context.Context, tx pgx.Tx, user User, kind audit.Kind) error {
	if user.Active {
		return nil
	}
	noted, err := a.queries.SuspendMarked(ctx, tx, user.ID)
	if err != nil {
		return fmt.Errorf("note the suspension: %w", err)
	}
	if noted == 0 {
		return nil
	}
	return a.cfg.Trail.Record(ctx, tx, kind, user.ID, uuid.Nil)
}

// noteKept records that the reactivation of an account cancels its deletion.
func (a *Accounts) noteKept(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	mark, err := a.deletionOf(ctx, tx, id)
	if err != nil || mark == nil {
		return err
	}
	return a.tellKept(ctx, tx, id)
}

// tellKept records that the deletion of an account is cancelled, and mails its owner.
func (a *Accounts) tellKept(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	if err := a.cfg.Mailer.Notify(ctx, tx, mail.DeletionCancelled, id, caller.From(ctx).TraceID); err != nil {
		return err
	}
	return a.cfg.Trail.Record(ctx, tx, audit.DeletionCancelled, id, uuid.Nil)
}
