package account

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// undoTTL is the life of a link that undoes a change of address. As long, nobody else can get the address before.
const undoTTL = 72 * time.Hour

// undoChange is the purpose of the secret that gives an account the address back that it had before a change.
func undoChange() purpose {
	return purpose{name: "undo_email_change", label: "latchkey undo email change\x00"}
}

// protection is what protected an account when its address was changed. Ids and not times: a thief may call a replica
// whose clock is behind.
type protection struct {
	// Epoch is the number of the password.
	Epoch int64 `json:"epoch"`
	// Factors are the second factors, RecoverySet are the recovery codes.
	Factors     []uuid.UUID `json:"factors"`
	RecoverySet uuid.UUID   `json:"recovery_set"`
}

func (a *Accounts) protectionOf(ctx context.Context, tx pgx.Tx, userID uuid.UUID) (protection, error) {
	row, err := a.queries.FindProtection(ctx, tx, userID)
	if err != nil {
		return protection{}, fmt.Errorf("read the factors: %w", err)
	}
	return protection{Epoch: row.Epoch, Factors: row.Factors, RecoverySet: row.RecoverySet}, nil
}

// isReserved returns whether an account other than this one may take the address back. uuid.Nil: a new account.
func isReserved(ctx context.Context, on db.DBTX, userID uuid.UUID, lookup string, now time.Time) (bool, error) {
	reserved, err := db.New().AddressReserved(ctx, on, db.AddressReservedParams{
		Address: lookup, UserID: userID, Now: now,
	})
	if err != nil {
		return false, fmt.Errorf("look whether the address is reserved: %w", err)
	}
	return reserved, nil
}

// tellFormer mails the address before that the account, which is locked, has another one. The mail has a link that undoes
// the change if the account can get one.
func (a *Accounts) tellFormer(ctx context.Context, tx pgx.Tx, before db.User) error {
	c := caller.From(ctx)
	head, err := a.cfg.Revoker.Head(ctx, tx)
	if err != nil {
		return err
	}
	switch offered, err := a.offerUndo(ctx, tx, before, head.Position); {
	case err != nil:
		return err
	case !offered:
		return a.cfg.Mailer.NotifyFormer(ctx, tx, mail.EmailChanged, before.Email, c.TraceID)
	}
	return a.cfg.Mailer.SendLetter(ctx, tx, mail.EmailChangedUndo, mail.Link{
		UserID: before.ID, Position: head.Position, TraceID: c.TraceID, CallID: c.CallID,
	})
}

// offerUndo keeps the secret that undoes a change, and reserves the address of before with it. It offers none to an
// address that nobody has proved: it may be that of a stranger, who must not get the account. Nor does it while an
// earlier change can be undone: the address of before came with that change, and may be that of a thief, who must not get
// the account back from an owner who has changed it again.
func (a *Accounts) offerUndo(ctx context.Context, tx pgx.Tx, before db.User, position int64) (bool, error) {
	if !before.IsVerified || !a.cfg.UndoLinks {
		return false, nil
	}
	had, err := a.protectionOf(ctx, tx, before.ID)
	if err != nil {
		return false, err
	}
	data, err := json.Marshal(had)
	if err != nil {
		return false, err
	}
	now := a.cfg.Now()
	nonce := newNonce()
	s := secrets{purpose: undoChange(), key: a.cfg.LinkKey}
	created, err := a.queries.CreateUndo(ctx, tx, db.CreateUndoParams{
		UserID: before.ID, Purpose: s.purpose.name, Asker: nobody(), Address: address.Lookup(before.Email), NewEmail: before.Email,
		TokenHash: HashToken(s.derive(before.ID, nonce)), Nonce: nonce, Position: position, Data: data,
		CreatedAt: now, ExpiresAt: now.Add(undoTTL),
	})
	if err != nil {
		return false, fmt.Errorf("keep the undo: %w", err)
	}
	return created == 1, nil
}

// findUndo returns the mail with the link that undoes a change. It is sent also if the sessions were ended since. It has
// no link if the secret key was changed since.
func (r Resets) findUndo(ctx context.Context, tx pgx.Tx, link mail.Link) (mail.Letter, error) {
	s := secrets{purpose: undoChange(), key: r.Key}
	row, err := db.New().FindUndoNonce(ctx, tx, db.FindUndoNonceParams{
		UserID: link.UserID, Purpose: s.purpose.name, Asker: nobody(), Now: r.Now(),
	})
	if errors.Is(err, pgx.ErrNoRows) { // spent or expired
		return mail.Letter{}, nil
	}
	if err != nil {
		return mail.Letter{}, fmt.Errorf("look for the undo: %w", err)
	}
	letter := mail.Letter{To: row.NewEmail, Happened: row.CreatedAt, Valid: row.ExpiresAt.Sub(r.Now())}
	if token := s.derive(link.UserID, row.Nonce); subtle.ConstantTimeCompare(HashToken(token), row.TokenHash) == 1 {
		letter.Token = token
	}
	return letter, nil
}

// UndoEmailChange gives an account the address back that it had before a change, and takes everything from it that
// somebody who changed the address may have planted. It returns when no replica accepts a session of the account.
func (a *Accounts) UndoEmailChange(ctx context.Context, token string) error {
	userID, err := a.queries.FindUndo(ctx, a.cfg.Pool, db.FindUndoParams{
		Purpose: undoChange().name, TokenHash: HashToken(token), Now: a.cfg.Now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return refusal.LinkInvalid()
	}
	if err != nil {
		return fmt.Errorf("look the undo up: %w", err)
	}
	_, err = revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		ended, err := a.undo(ctx, tx, userID, token)
		return struct{}{}, ended, err
	})
	return err
}

// undo spends the token, puts the address back and ends all sessions, or does none of it. It locks the account's row
// first and the ledger's head last.
func (a *Accounts) undo(ctx context.Context, tx pgx.Tx, userID uuid.UUID, token string) (revoke.Ended, error) {
	before, err := a.queries.LockUser(ctx, tx, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return revoke.Ended{}, refusal.LinkInvalid()
	}
	if err != nil {
		return revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
	}
	if !before.IsActive {
		if err := a.keepUndone(ctx, tx, userID); err != nil {
			return revoke.Ended{}, err
		}
	}
	undone, err := a.queries.SpendUndo(ctx, tx, db.SpendUndoParams{
		Purpose: undoChange().name, TokenHash: HashToken(token), UserID: userID, Now: a.cfg.Now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return revoke.Ended{}, refusal.LinkInvalid()
	}
	if err != nil {
		return revoke.Ended{}, fmt.Errorf("spend the undo: %w", err)
	}
	if err := a.putBack(ctx, tx, userID, undone); err != nil {
		return revoke.Ended{}, err
	}
	traceID := caller.From(ctx).TraceID
	if err := a.cfg.Mailer.Notify(ctx, tx, mail.EmailChangeUndone, userID, traceID); err != nil {
		return revoke.Ended{}, err
	}
	if before.Email != undone.NewEmail {
		if err := a.cfg.Mailer.NotifyFormer(ctx, tx, mail.EmailChangeUndone, before.Email, traceID); err != nil {
			return revoke.Ended{}, err
		}
	}
	return a.cfg.Revoker.AppendUser(ctx, tx, audit.EmailChangeUndone, userID)
}

// keepUndone makes an account active again that is to be deleted: the thief who has changed its address may have asked for
// that. It refuses one that an operator has suspended, and one whose time is over, as a login does.
func (a *Accounts) keepUndone(ctx context.Context, tx pgx.Tx, userID uuid.UUID) error {
	switch mark, err := a.deletionOf(ctx, tx, userID); {
	case err != nil:
		return err
	case !a.canKeep(mark):
		return refusal.LinkInvalid()
	}
	// The trigger on users deletes the mark.
	if _, err := a.queries.SetUserActive(ctx, tx, db.SetUserActiveParams{ID: userID, IsActive: true}); err != nil {
		return fmt.Errorf("enable the account: %w", err)
	}
	return a.tellKept(ctx, tx, userID)
}

// putBack gives an account, which is locked, its address of before, and the protection that it had with it. A thief could
// otherwise log in with a password of their own, or keep the owner out with an authenticator app or passkey of their own.
// Factors that the account had before stay, so that an undo skips none.
func (a *Accounts) putBack(ctx context.Context, tx pgx.Tx, userID uuid.UUID, undone db.SpendUndoRow) error {
	var had protection
	if err := json.Unmarshal(undone.Data, &had); err != nil {
		return fmt.Errorf("read what an undo puts back: %w", err)
	}
	has, err := a.protectionOf(ctx, tx, userID)
	if err != nil {
		return err
	}
	if _, err := a.queries.ProveAddress(ctx, tx, userID); err != nil {
		return fmt.Errorf("mark the address as proved: %w", err)
	}
	_, err = a.queries.PutAddressBack(ctx, tx, db.PutAddressBackParams{ID: userID, Email: undone.NewEmail, EmailLookup: undone.Address})
	if isTaken(err) {
		return refusal.EmailTaken()
	}
	if err != nil {
		return fmt.Errorf("put the address back: %w", err)
	}
	if err := a.queries.KeepLookup(ctx, tx, db.KeepLookupParams{ID: userID, EmailLookup: undone.Address}); err != nil {
		return fmt.Errorf("put the address back: %w", err)
	}
	if has.Epoch != had.Epoch {
		if err := a.queries.SetPassword(ctx, tx, db.SetPasswordParams{ID: userID, PasswordHash: password.None}); err != nil {
			return fmt.Errorf("remove the password: %w", err)
		}
	}
	// Kept is never nil: that would be NULL, which keeps everything.
	err = a.queries.DeleteFactorsBut(ctx, tx, db.DeleteFactorsButParams{
		UserID: userID, Kept: append([]uuid.UUID{}, had.Factors...), KeptSet: had.RecoverySet,
	})
	if err != nil {
		return fmt.Errorf("remove the factors: %w", err)
	}
	return nil
}
