package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// An address can be signed up and deleted over and over, by anybody who does not own it, and each new account has counts
// of mails of its own. So owners can delete deletionsInWindow accounts of one address in deletionWindow.
const (
	deletionsInWindow = 5
	deletionWindow    = 24 * time.Hour
	// deletionKind is the kind under which they are counted, beside the notices. It is stored: do not change it.
	deletionKind = "deletion_of_address"
)

// Delete deletes the account of a session, at once or after the grace of the settings, and returns when it is or was
// deleted. Of several calls at once one does the work, and all of them return its time, when it is final.
func (a *Accounts) Delete(ctx context.Context, by revoke.Authority) (time.Time, error) {
	return a.leave(ctx, leaving{
		id: by.UserID, acting: by.SessionID, grace: a.cfg.DeletionGrace, unknown: refusal.AccountGone,
		allow: func(ctx context.Context, tx pgx.Tx, email string) error {
			if err := a.cfg.Revoker.RecheckFactor(ctx, tx, by); err != nil {
				return err
			}
			return a.admitDeletion(ctx, tx, email)
		},
	})
}

// admitDeletion counts a deletion by the address of the account, of which only a keyed hash is stored.
func (a *Accounts) admitDeletion(ctx context.Context, tx pgx.Tx, email string) error {
	mac := hmac.New(sha256.New, a.cfg.LinkKey)
	mac.Write([]byte("latchkey deletions of an address\x00" + address.Lookup(email)))
	admitted, err := a.queries.AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: uuid.UUID(mac.Sum(nil)[:16]), Kind: deletionKind, Now: a.cfg.Now(),
		WindowSeconds: deletionWindow.Seconds(), WindowLimit: deletionsInWindow,
	})
	if err != nil {
		return fmt.Errorf("count the deletion: %w", err)
	}
	if admitted == 0 {
		return refusal.New(codes.ResourceExhausted, latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			"five accounts with this address were deleted within a day: try again tomorrow", refusal.RetryInfo(deletionWindow))
	}
	return nil
}

// DeleteByOperator is Delete for an operator. immediately passes over the grace, also of an account that is to be
// deleted already. It refuses an id that no account has, and had lately.
func (a *Accounts) DeleteByOperator(ctx context.Context, id uuid.UUID, immediately bool) (time.Time, error) {
	l := leaving{
		id: id, grace: a.cfg.DeletionGrace, unknown: refusal.AccountNotFound, hurry: immediately,
		allow: func(context.Context, pgx.Tx, string) error { return nil },
	}
	if immediately {
		l.grace = 0
	}
	return a.leave(ctx, l)
}

// RecheckFactor refuses a session that a validation would refuse now, and one that has not shown a second factor of the
// account.
func (a *Accounts) RecheckFactor(ctx context.Context, by revoke.Authority) error {
	return postgres.InTx(ctx, a.cfg.Pool, func(tx pgx.Tx) error { return a.cfg.Revoker.RecheckFactor(ctx, tx, by) })
}

// leaving says which account to delete, and how.
type leaving struct {
	id uuid.UUID
	// acting is the session that asks. uuid.Nil: an operator does.
	acting uuid.UUID
	grace  time.Duration
	// hurry deletes an account at once that is to be deleted later.
	hurry bool
	// allow refuses the call, after the account was locked. unknown is the refusal if there is no such account.
	allow   func(ctx context.Context, tx pgx.Tx, email string) error
	unknown func() error
}

// leave marks an account or deletes it. A call that finds the work of another one done answers the same, when that is
// final: it waits for the head, which is at or past the row of the other call.
func (a *Accounts) leave(ctx context.Context, l leaving) (time.Time, error) {
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (time.Time, revoke.Ended, error) {
		row, err := a.queries.LockUser(ctx, tx, l.id)
		if errors.Is(err, pgx.ErrNoRows) {
			return a.deletedBefore(ctx, tx, l)
		}
		if err != nil {
			return time.Time{}, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		mark, err := a.deletionOf(ctx, tx, l.id)
		if err != nil {
			return time.Time{}, revoke.Ended{}, err
		}
		if mark != nil && !l.hurry {
			head, err := a.cfg.Revoker.Head(ctx, tx)
			return mark.DeleteAt, head, err
		}
		if err := l.allow(ctx, tx, row.Email); err != nil {
			return time.Time{}, revoke.Ended{}, err
		}
		if l.grace > 0 {
			return a.mark(ctx, tx, row, l)
		}
		return a.erase(ctx, tx, row, l.acting)
	})
}

// deletedBefore answers a call for an account that is gone.
func (a *Accounts) deletedBefore(ctx context.Context, tx pgx.Tx, l leaving) (time.Time, revoke.Ended, error) {
	at, err := a.queries.FindDeleted(ctx, tx, l.id)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, revoke.Ended{}, l.unknown()
	}
	if err != nil {
		return time.Time{}, revoke.Ended{}, fmt.Errorf("look for the deletion: %w", err)
	}
	head, err := a.cfg.Revoker.Head(ctx, tx)
	return at, head, err
}

// deletionOf returns the mark of an account that is to be deleted, or nil.
func (a *Accounts) deletionOf(ctx context.Context, on db.DBTX, id uuid.UUID) (*db.AccountDeletion, error) {
	mark, err := a.queries.FindDeletion(ctx, on, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // most accounts have none
	}
	if err != nil {
		return nil, fmt.Errorf("look for the mark of a deletion: %w", err)
	}
	return &mark, nil
}

// mark makes an account that is locked unusable until it is deleted.
func (a *Accounts) mark(ctx context.Context, tx pgx.Tx, row db.User, l leaving) (time.Time, revoke.Ended, error) {
	now := a.cfg.Now()
	at := now.Add(l.grace)
	err := a.queries.MarkDeletion(ctx, tx, db.MarkDeletionParams{
		UserID: row.ID, RequestedAt: now, DeleteAt: at, Suspended: !row.IsActive,
	})
	if err != nil {
		return time.Time{}, revoke.Ended{}, fmt.Errorf("mark the account: %w", err)
	}
	if _, err := a.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: row.ID, IsActive: false}); err != nil {
		return time.Time{}, revoke.Ended{}, fmt.Errorf("disable the account: %w", err)
	}
	if err := a.cfg.Mailer.NotifyDeletion(ctx, tx, row.ID, at, caller.From(ctx).TraceID); err != nil {
		return time.Time{}, revoke.Ended{}, err
	}
	ended, err := a.cfg.Revoker.AppendUserFor(ctx, tx, audit.DeletionRequested, row.ID, l.acting)
	return at, ended, err
}

// erase deletes an account that is locked. The time is the one of the ledger's row, so that later calls return the same.
func (a *Accounts) erase(ctx context.Context, tx pgx.Tx, row db.User, acting uuid.UUID) (time.Time, revoke.Ended, error) {
	if err := a.cfg.Mailer.Farewell(ctx, tx, row.Email, caller.From(ctx).TraceID); err != nil {
		return time.Time{}, revoke.Ended{}, err
	}
	deleted, err := a.queries.DeleteUser(ctx, tx, db.DeleteUserParams{ID: row.ID, Email: row.Email, EmailLookup: address.Lookup(row.Email)})
	if err != nil {
		return time.Time{}, revoke.Ended{}, fmt.Errorf("delete the account: %w", err)
	}
	if deleted != 1 { // a trigger of somebody else's, perhaps: do not say that it is gone
		return time.Time{}, revoke.Ended{}, fmt.Errorf("delete the account: %d rows were deleted", deleted)
	}
	ended, err := a.cfg.Revoker.AppendUserFor(ctx, tx, audit.AccountDeleted, row.ID, acting)
	if err != nil {
		return time.Time{}, revoke.Ended{}, err
	}
	ended.Deleted = true
	at, err := a.queries.FindDeleted(ctx, tx, row.ID)
	if err != nil {
		return time.Time{}, revoke.Ended{}, fmt.Errorf("read the time of the deletion: %w", err)
	}
	return at, ended, nil
}

// DeleteDue deletes the accounts whose grace is over. Any number of replicas may call it at once: each account is locked
// and looked at again, so that one of them deletes it. A crash leaves the account marked for the next call.
func (a *Accounts) DeleteDue(ctx context.Context) error {
	var failed error
	now := a.cfg.Now()
	page := db.DueDeletionsParams{Now: now}
	for {
		due, err := a.queries.DueDeletions(ctx, a.cfg.Pool, page)
		if err != nil {
			return errors.Join(failed, fmt.Errorf("list the accounts to delete: %w", err))
		}
		if len(due) == 0 {
			return failed
		}
		for _, d := range due {
			if err := a.deleteDue(ctx, d.UserID, now); err != nil {
				failed = errors.Join(failed, fmt.Errorf("delete the account %s: %w", d.UserID, err))
			}
			page.After, page.AfterID = d.DeleteAt, d.UserID
		}
	}
}

func (a *Accounts) deleteDue(ctx context.Context, id uuid.UUID, now time.Time) error {
	_, err := revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (time.Time, revoke.Ended, error) {
		row, err := a.queries.LockUser(ctx, tx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return time.Time{}, revoke.Ended{}, nil // another replica was faster
		}
		if err != nil {
			return time.Time{}, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		mark, err := a.deletionOf(ctx, tx, id)
		if err != nil || mark == nil || mark.DeleteAt.After(now) || row.IsActive { // it was kept meanwhile
			return time.Time{}, revoke.Ended{}, err
		}
		return a.erase(ctx, tx, row, uuid.Nil)
	})
	return err
}
