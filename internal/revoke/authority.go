package revoke

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// Authority is the session on whose behalf a call acts, and how it was shown.
type Authority struct {
	UserID, SessionID uuid.UUID
	// Position is the position that the session carries.
	Position int64
	// KeyID is the key that signed the access token, or "" for a refresh token.
	KeyID string
	// Factors is how many factors the authentication of the access token had, 1 or 2, and AuthTime when it was, in whole
	// seconds. Both are zero for a refresh token, and AuthTime also if the token does not say.
	Factors  uint32
	AuthTime time.Time
	// AMR are the methods of that authentication (RFC 8176).
	AMR []string
}

// NeedFactor refuses a session that has shown one factor only, although the account had one of these second factors, the
// oldest first, by then. Somebody with the password and a stolen session must not get by without it. A session that was
// authenticated before could not prove it, and passes; the policy of the methods wants it to be fresh.
func (by Authority) NeedFactor(second []db.Factor) error {
	if len(second) > 0 && by.Factors < 2 && by.AuthTime.After(second[0].CreatedAt) {
		return refusal.FactorRequired()
	}
	return nil
}

type authorityKey struct{}

// WithAuthority returns a context for a request that has shown the access token of a session and passed the check.
func WithAuthority(ctx context.Context, by Authority) context.Context {
	return context.WithValue(ctx, authorityKey{}, by)
}

// FromContext returns the session on whose behalf this request acts. It returns an error if there is none: then the
// policy of the method is not AUTH_CLASS_SESSION.
func FromContext(ctx context.Context) (Authority, error) {
	by, ok := ctx.Value(authorityKey{}).(Authority)
	if !ok {
		return Authority{}, errors.New("the caller was not authenticated: the method's policy is not AUTH_CLASS_SESSION")
	}
	return by, nil
}

// Ending says which sessions of an account to end, and why.
type Ending struct {
	// Except is the session that is spared. uuid.Nil: none is.
	Except uuid.UUID
	Kind   audit.Kind
	// Done returns true if nothing is left to end. It runs after the account was locked. Then no row is appended, and
	// the call waits for the rows that are there. Optional.
	Done func(ctx context.Context, tx pgx.Tx) (bool, error)
	// Change does more in the same transaction. Optional.
	Change func(ctx context.Context, tx pgx.Tx) error
}

// Sessions ends the sessions of an account on the authority of one of them.
//
// Since the call was authenticated, seconds may have passed, because hashes have a queue. So the authority is checked
// again after the account was locked: a session that was ended in the meantime ends no others and changes nothing. It
// is checked once more after the row was appended: the end of one session waits only for the ledger's head, not for the
// account, so it may have come in between.
func (r *Revoker) Sessions(ctx context.Context, by Authority, ending Ending) error {
	_, err := InTx(ctx, r, func(ctx context.Context, tx pgx.Tx) (struct{}, Ended, error) {
		ended, err := r.endSessions(ctx, tx, by, ending)
		return struct{}{}, ended, err
	})
	return err
}

func (r *Revoker) endSessions(ctx context.Context, tx pgx.Tx, by Authority, ending Ending) (Ended, error) {
	if err := r.Recheck(ctx, tx, by); err != nil {
		return Ended{}, err
	}
	if ending.Done != nil {
		switch done, err := ending.Done(ctx, tx); {
		case err != nil:
			return Ended{}, err
		case done:
			return r.Head(ctx, tx)
		}
	}
	if ending.Change != nil {
		if err := ending.Change(ctx, tx); err != nil {
			return Ended{}, err
		}
	}
	ended, err := r.appendUser(ctx, tx, ending.Kind, by.UserID, by.SessionID, ending.Except)
	if err != nil {
		return Ended{}, err
	}
	last := by
	if ending.Except == uuid.Nil {
		last.Position = ended.Position // the row itself ends the session too
	}
	return ended, r.refuseEnded(ctx, tx, last)
}

// Change makes a change to an account that ends none of its sessions, on the authority of one of them, and returns its
// result when every replica shows it. It checks the authority again after it has locked the account, and once more at the
// end, as Sessions does.
func Change[T any](ctx context.Context, r *Revoker, by Authority, change func(ctx context.Context, tx pgx.Tx) (T, error)) (T, error) {
	return InTx(ctx, r, func(ctx context.Context, tx pgx.Tx) (result T, ended Ended, err error) {
		if err := r.Recheck(ctx, tx, by); err != nil {
			return result, ended, err
		}
		if result, err = change(ctx, tx); err != nil {
			return result, ended, err
		}
		ended, err = r.AnnounceChangesFor(ctx, tx, by)
		return result, ended, err
	})
}

// AnnounceChanges appends the rows about accounts that tx has changed, and returns what the call waits for. The trigger
// on users appends them at the commit; here it does so now, because their position is wanted. It locks the ledger's
// head, so it must come last.
func (r *Revoker) AnnounceChanges(ctx context.Context, tx pgx.Tx) (Ended, error) {
	if err := announce(ctx, tx); err != nil {
		return Ended{}, err
	}
	return r.Head(ctx, tx)
}

// AnnounceChangesFor is AnnounceChanges on the authority of a session, with RecheckLast.
func (r *Revoker) AnnounceChangesFor(ctx context.Context, tx pgx.Tx, by Authority) (Ended, error) {
	if err := announce(ctx, tx); err != nil {
		return Ended{}, err
	}
	return r.RecheckLast(ctx, tx, by)
}

// RecheckLast refuses a session that was ended since Recheck: the end of one session waits only for the ledger's head, and
// not for the account, so it may have come in between, and its call may have returned. It locks the head, so that no
// session ends between this look and the commit, and must come last. It returns the head, for a call that waits.
func (r *Revoker) RecheckLast(ctx context.Context, tx pgx.Tx, by Authority) (Ended, error) {
	head, err := r.queries.LockLedger(ctx, tx)
	if err != nil {
		return Ended{}, fmt.Errorf("lock the ledger's head: %w", err)
	}
	return Ended{Position: head}, r.refuseEnded(ctx, tx, by)
}

func announce(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET CONSTRAINTS latchkey_user_updated IMMEDIATE"); err != nil {
		return fmt.Errorf("announce the change: %w", err)
	}
	return nil
}

// OtherSessions ends all sessions of the account except the one that asks for it.
func (r *Revoker) OtherSessions(ctx context.Context, by Authority) error {
	ending := Ending{Except: by.SessionID, Kind: audit.OthersRevoked}
	if r.isLoop(ctx, by.UserID) {
		ending.Done = func(ctx context.Context, tx pgx.Tx) (bool, error) { return r.othersRevoked(ctx, tx, by) }
	}
	return r.Sessions(ctx, by, ending)
}

// Recheck locks the account and refuses everything that a validation would refuse now. The account's row is locked
// first and the ledger's head last. A call that changes something looks again at its end: see RecheckLast.
func (r *Revoker) Recheck(ctx context.Context, tx pgx.Tx, by Authority) error {
	if _, err := r.queries.LockUser(ctx, tx, by.UserID); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("lock the account: %w", err)
	}
	return r.refuseEnded(ctx, tx, by)
}

// RecheckFactor is Recheck, and refuses a session that has not shown a second factor of the account.
func (r *Revoker) RecheckFactor(ctx context.Context, tx pgx.Tx, by Authority) error {
	if err := r.Recheck(ctx, tx, by); err != nil {
		return err
	}
	second, err := r.queries.ListFactors(ctx, tx, by.UserID)
	if err != nil {
		return fmt.Errorf("list the factors: %w", err)
	}
	return by.NeedFactor(second)
}

// refuseEnded refuses everything that a validation would refuse now.
func (r *Revoker) refuseEnded(ctx context.Context, tx pgx.Tx, by Authority) error {
	found, err := r.queries.FindUserForSession(ctx, tx, db.FindUserForSessionParams{
		UserID: by.UserID, SessionID: by.SessionID, Position: by.Position, KeyID: by.KeyID,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refusal.AccountGone()
	case err != nil:
		return fmt.Errorf("look the account up: %w", err)
	case found.KeyRevoked:
		return refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID, "the access token is not accepted any more: log in again")
	case !found.User.IsActive:
		return refusal.AccountDisabled()
	case found.Revoked:
		return refusal.SessionEnded()
	}
	return nil
}
