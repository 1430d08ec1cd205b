package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// LeavesAt implements login.Accounts. An account that an operator has suspended too cannot be kept by its owner.
func (a *Accounts) LeavesAt(ctx context.Context, id uuid.UUID) (time.Time, error) {
	mark, err := a.deletionOf(ctx, a.cfg.Pool, id)
	if err != nil || !a.canKeep(mark) {
		return time.Time{}, err
	}
	return mark.DeleteAt, nil
}

// canKeep returns whether the owner of an account with this mark can cancel its deletion.
func (a *Accounts) canKeep(mark *db.AccountDeletion) bool {
	return mark != nil && !mark.Suspended && mark.DeleteAt.After(a.cfg.Now())
}

// Keep cancels the deletion of an account for its owner, who has just logged in with all that the account asks for, and
// returns the position for the session. position is the ledger's from before the password was compared: if the password
// was replaced since, or anything else has ended sessions, the owner has to log in again.
func (a *Accounts) Keep(ctx context.Context, id uuid.UUID, position int64) (int64, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (int64, revoke.Ended, error) {
		row, err := a.queries.LockUser(ctx, tx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, revoke.Ended{}, refusal.InvalidCredentials()
		}
		if err != nil {
			return 0, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		isEnded, err := a.queries.EndedSince(ctx, tx, db.EndedSinceParams{UserID: id, Position: position})
		if err != nil {
			return 0, revoke.Ended{}, fmt.Errorf("look for the end of sessions: %w", err)
		}
		if isEnded {
			return 0, revoke.Ended{}, refusal.InvalidCredentials()
		}
		mark, err := a.deletionOf(ctx, tx, id)
		if err != nil {
			return 0, revoke.Ended{}, err
		}
		if !a.canKeep(mark) {
			return 0, revoke.Ended{}, refusal.AccountDisabled()
		}
		_, ended, err := a.restore(ctx, tx, row)
		return ended.Position, ended, err
	})
}

// restore makes an account active that was to be deleted. The account is locked.
func (a *Accounts) restore(ctx context.Context, tx pgx.Tx, row db.User) (User, revoke.Ended, error) {
	// The trigger on users deletes the mark.
	row, err := a.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: row.ID, IsActive: true})
	if err != nil {
		return User{}, revoke.Ended{}, fmt.Errorf("enable the account: %w", err)
	}
	if err := a.cfg.Mailer.Notify(ctx, tx, mail.DeletionCancelled, row.ID, caller.From(ctx).TraceID); err != nil {
		return User{}, revoke.Ended{}, err
	}
	ended, err := a.cfg.Revoker.AppendUser(ctx, tx, audit.DeletionCancelled, row.ID)
	return FromRow(row), ended, err
}

// Restore cancels the deletion of an account for an operator. It changes nothing for any other account. It refuses an id
// that no account has.
func (a *Accounts) Restore(ctx context.Context, id uuid.UUID) (User, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (User, revoke.Ended, error) {
		row, err := a.queries.LockUser(ctx, tx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return User{}, revoke.Ended{}, refusal.AccountNotFound()
		}
		if err != nil {
			return User{}, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		mark, err := a.deletionOf(ctx, tx, id)
		switch {
		case err != nil:
			return User{}, revoke.Ended{}, err
		case mark == nil:
			head, err := a.cfg.Revoker.Head(ctx, tx)
			return FromRow(row), head, err
		case !mark.Suspended:
			return a.restore(ctx, tx, row)
		}
		if err := a.queries.UnmarkDeletion(ctx, tx, id); err != nil {
			return User{}, revoke.Ended{}, fmt.Errorf("cancel the deletion: %w", err)
		}
		return FromRow(row), revoke.Ended{}, a.cfg.Trail.Record(ctx, tx, audit.DeletionCancelled, id, uuid.Nil)
	})
}

// DeleteTimes returns when accounts will be deleted, for those that are to be deleted.
func (a *Accounts) DeleteTimes(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]time.Time, error) {
	if len(ids) == 0 {
		return nil, nil //nolint:nilnil // an empty map
	}
	marks, err := a.queries.FindDeletions(ctx, a.cfg.Pool, ids)
	if err != nil {
		return nil, fmt.Errorf("look for marks of deletions: %w", err)
	}
	times := make(map[uuid.UUID]time.Time, len(marks))
	for _, mark := range marks {
		times[mark.UserID] = mark.DeleteAt
	}
	return times, nil
}

// VerifyByOperator marks the address of an account as proved, and ends nothing. It changes nothing for one that was
// proved before. It refuses an id that no account has.
func (a *Accounts) VerifyByOperator(ctx context.Context, id uuid.UUID) (User, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (User, revoke.Ended, error) {
		user, err := a.lock(ctx, tx, id)
		if err != nil {
			return User{}, revoke.Ended{}, err
		}
		if user.Verified {
			head, err := a.cfg.Revoker.Head(ctx, tx)
			return user, head, err
		}
		row, err := a.queries.ProveAddress(ctx, tx, id)
		if err != nil {
			return User{}, revoke.Ended{}, fmt.Errorf("mark the address as proved: %w", err)
		}
		if err := a.cfg.Trail.Record(ctx, tx, audit.UserEmailVerified, id, uuid.Nil); err != nil {
			return User{}, revoke.Ended{}, err
		}
		if err := a.cfg.Mailer.Notify(ctx, tx, mail.EmailVerifiedByOperator, id, caller.From(ctx).TraceID); err != nil {
			return User{}, revoke.Ended{}, err
		}
		announced, err := a.cfg.Revoker.AnnounceChanges(ctx, tx)
		return FromRow(row), announced, err
	})
}
