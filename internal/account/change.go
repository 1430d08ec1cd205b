package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const (
	// changeTTL is the life of a link that changes an address, counted from its newest mail. It is short, because the
	// person who asked is waiting for it, and somebody else's account must not wait for a day in a stranger's mailbox.
	changeTTL = time.Hour

	emailChangesScope = "ChangeEmail of an account"
)

// emailChangesRate limits the mails that one account can cause at addresses of others, and the rows.
func emailChangesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 10} }

// changeAddress is the purpose of the secret with which the owner of an account proves a new address and gets it.
func changeAddress() purpose {
	return purpose{name: "change_email", label: "latchkey change email\x00"}
}

// ChangeEmail mails a link and a code to the new address, on the authority of a session. It changes nothing else about
// the account. It does the same for every new address: whether an account has it is looked at when the mail is sent.
func (a *Accounts) ChangeEmail(ctx context.Context, by revoke.Authority, newEmail string) error {
	if err := checkNewAddress("new_email", newEmail); err != nil {
		return err
	}
	if err := a.cfg.Redis.Allow(ctx, emailChangesScope, by.UserID.String(), emailChangesRate()); err != nil {
		return err
	}
	err := postgres.InTx(ctx, a.cfg.Pool, func(tx pgx.Tx) error { return a.askForChange(ctx, tx, by, newEmail) })
	if err != nil {
		return fmt.Errorf("ask for a change of address: %w", err)
	}
	return nil
}

// askForChange keeps the secret of the change in place of that of an earlier change, and queues the mails.
//
// The head is read while the account is locked, and before the authority is checked: a revocation after the head ends
// the secret, and the check refuses because of one before it.
func (a *Accounts) askForChange(ctx context.Context, tx pgx.Tx, by revoke.Authority, newEmail string) error {
	user, err := a.queries.LockUser(ctx, tx, by.UserID)
	if errors.Is(err, pgx.ErrNoRows) {
		return refusal.AccountGone()
	}
	if err != nil {
		return fmt.Errorf("lock the account: %w", err)
	}
	head, err := a.cfg.Revoker.Head(ctx, tx)
	if err != nil {
		return err
	}
	if err := a.cfg.Revoker.RecheckFactor(ctx, tx, by); err != nil {
		return err
	}
	if newEmail == user.Email {
		return sameAddress()
	}
	s := secrets{purpose: changeAddress(), ttl: changeTTL, key: a.cfg.LinkKey, now: a.cfg.Now}
	o := owner{userID: user.ID, address: address.Lookup(newEmail), asker: nobody()}
	if _, err := s.issue(ctx, tx, o, head.Position); err != nil {
		return err
	}
	err = a.queries.SetNewEmail(ctx, tx, db.SetNewEmailParams{
		UserID: user.ID, Purpose: s.purpose.name, Asker: o.asker, NewEmail: newEmail, SessionID: by.SessionID,
	})
	if err != nil {
		return fmt.Errorf("note the new address: %w", err)
	}
	if err := a.cfg.Trail.Record(ctx, tx, audit.EmailChangeRequested, user.ID, by.SessionID); err != nil {
		return err
	}
	if err := a.cfg.Mailer.Notify(ctx, tx, mail.EmailChangeRequested, user.ID, caller.From(ctx).TraceID); err != nil {
		return err
	}
	if err := a.mailChange(ctx, tx, o, head.Position); err != nil {
		return err
	}
	_, err = a.cfg.Revoker.RecheckLast(ctx, tx, by)
	return err
}

func sameAddress() error {
	return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "new_email", "EMAIL_SAME", "is the address of the account already")
}

// mailChange queues the mail to the new address, unless it was sent enough of them lately, for whatever account.
func (a *Accounts) mailChange(ctx context.Context, tx pgx.Tx, o owner, position int64) error {
	admitted, err := a.queries.AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: addressID(o.address), Kind: string(mail.ChangeEmail), Now: a.cfg.Now(),
		GapSeconds: letterGap.Seconds(), WindowSeconds: linkWindow.Seconds(), WindowLimit: linksInWindow,
	})
	if err != nil {
		return fmt.Errorf("count the mails: %w", err)
	}
	if admitted == 0 {
		return nil
	}
	c := caller.From(ctx)
	return a.cfg.Mailer.SendLetter(ctx, tx, mail.ChangeEmail, mail.Link{
		UserID: o.userID, Position: position, TraceID: c.TraceID, CallID: c.CallID, Address: addressID(o.address),
	})
}

// issueChange returns the mail of a change of address. It returns none if the change was replaced by one to another
// address, if the session that asked for it has ended, or if the new address is somebody else's: its owner is not told of
// each attempt, which would be a way to send them mails.
func (r Resets) issueChange(ctx context.Context, tx pgx.Tx, user db.User, link mail.Link) (letter mail.Letter, err error) {
	queries := db.New()
	s := secrets{purpose: changeAddress(), ttl: changeTTL, key: r.Key, now: r.Now}
	o := owner{userID: user.ID, asker: nobody()}
	change, err := queries.FindEmailChange(ctx, tx, db.FindEmailChangeParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, Now: r.Now(),
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return mail.Letter{}, nil
	case err != nil:
		return mail.Letter{}, fmt.Errorf("look for the change: %w", err)
	case addressID(change.Address) != link.Address:
		return mail.Letter{}, nil
	}
	o.address = change.Address
	asking, err := queries.SessionOfUserRevoked(ctx, tx, db.SessionOfUserRevokedParams{SessionID: change.SessionID, UserID: o.userID})
	if err != nil {
		return mail.Letter{}, fmt.Errorf("look the session up: %w", err)
	}
	if asking.Revoked {
		return mail.Letter{}, nil
	}
	held, err := queries.AddressHeld(ctx, tx, db.AddressHeldParams{Email: change.NewEmail, EmailLookup: o.address, UserID: o.userID})
	if err != nil {
		return mail.Letter{}, fmt.Errorf("look the new address up: %w", err)
	}
	reserved, err := isReserved(ctx, tx, o.userID, o.address, r.Now())
	if err != nil || held || reserved {
		return mail.Letter{}, err
	}
	if letter.Token, err = s.issue(ctx, tx, o, link.Position); err != nil {
		return mail.Letter{}, err
	}
	if letter.Code, _, err = s.code(ctx, tx, o); err != nil {
		return mail.Letter{}, err
	}
	letter.To, letter.Valid = change.NewEmail, changeTTL
	return letter, nil
}

// ConfirmEmailChange gives an account the address that somebody proves with its mail. It returns when every replica
// shows the new address.
func (a *Accounts) ConfirmEmailChange(ctx context.Context, m Mailed) error {
	shown, err := a.findMailed(ctx, changeAddress(), m)
	if err != nil {
		return err
	}
	_, err = revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		changed, err := a.confirmChange(ctx, tx, shown)
		return struct{}{}, changed, err
	})
	return err
}

// confirmChange spends the secret, changes the address and tells the one before, or does none of it. The trigger on users
// ends everything that was mailed to the address before.
//
// The session that asked for the change must be there at the end: an owner who ends the session of a thief, or a reuse that
// does, ends with it what the thief has asked for.
func (a *Accounts) confirmChange(ctx context.Context, tx pgx.Tx, shown mailed) (revoke.Ended, error) {
	spend, change := shown.spend, db.FindEmailChangeRow{}
	shown.spend = func(ctx context.Context, tx pgx.Tx) (err error) {
		change, err = a.queries.FindEmailChange(ctx, tx, db.FindEmailChangeParams{
			UserID: shown.userID, Purpose: changeAddress().name, Asker: shown.asker, Now: a.cfg.Now(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return errSecret
		}
		if err != nil {
			return fmt.Errorf("look for the change: %w", err)
		}
		return spend(ctx, tx)
	}
	before, err := a.lockMailed(ctx, tx, shown)
	if err != nil {
		return revoke.Ended{}, err
	}
	if err := a.takeAddress(ctx, tx, before, change.NewEmail); err != nil {
		return revoke.Ended{}, err
	}
	if err := a.tellFormer(ctx, tx, before); err != nil {
		return revoke.Ended{}, err
	}
	if err := a.cfg.Trail.Record(ctx, tx, audit.EmailChanged, before.ID, uuid.Nil); err != nil {
		return revoke.Ended{}, err
	}
	if change.SessionID == uuid.Nil {
		return a.cfg.Revoker.AnnounceChanges(ctx, tx)
	}
	// Rows that end all sessions have ended the secret, so only the end of this one is looked for: after the head.
	head, err := a.cfg.Revoker.Head(ctx, tx)
	if err != nil {
		return revoke.Ended{}, err
	}
	announced, err := a.cfg.Revoker.AnnounceChangesFor(ctx, tx, revoke.Authority{
		UserID: before.ID, SessionID: change.SessionID, Position: head.Position,
	})
	if refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED) {
		err = shown.invalid()
	}
	return announced, err
}

// takeAddress gives an account, which is locked, a proved address. It refuses one that another account has or may take
// back, and then the transaction must not be committed.
func (a *Accounts) takeAddress(ctx context.Context, tx pgx.Tx, before db.User, email string) error {
	lookup := address.Lookup(email)
	if _, err := a.queries.ProveAddress(ctx, tx, before.ID); err != nil {
		return fmt.Errorf("mark the address as proved: %w", err)
	}
	changed, err := a.queries.SetAddress(ctx, tx, db.SetAddressParams{ID: before.ID, Email: email, EmailLookup: lookup, OldEmail: before.Email})
	switch {
	case isTaken(err):
		return refusal.EmailTaken()
	case err != nil:
		return fmt.Errorf("change the address: %w", err)
	case changed != 1:
		return errors.New("change the address: it is not what it was when the account was locked")
	}
	if err := a.queries.KeepLookup(ctx, tx, db.KeepLookupParams{ID: before.ID, EmailLookup: lookup}); err != nil {
		return fmt.Errorf("change the address: %w", err)
	}
	switch reserved, err := isReserved(ctx, tx, before.ID, lookup, a.cfg.Now()); {
	case err != nil:
		return err
	case reserved:
		return refusal.EmailTaken()
	}
	return nil
}

// isTaken returns whether a statement failed because another account has the address.
func isTaken(err error) bool {
	const uniqueViolation = "23505"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == uniqueViolation
}

// ChangeAddress gives an account another address for an operator, who has made sure that it is the owner's, and ends all
// sessions and everything that was mailed, also undos: somebody else may read the mailbox before. It refuses an id that
// no account has.
func (a *Accounts) ChangeAddress(ctx context.Context, id uuid.UUID, newEmail string) (User, error) {
	if err := checkNewAddress("new_email", newEmail); err != nil {
		return User{}, err
	}
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (User, revoke.Ended, error) {
		before, err := a.queries.LockUser(ctx, tx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return User{}, revoke.Ended{}, refusal.AccountNotFound()
		case err != nil:
			return User{}, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		case before.Email == newEmail:
			return User{}, revoke.Ended{}, sameAddress()
		}
		if err := a.takeAddress(ctx, tx, before, newEmail); err != nil {
			return User{}, revoke.Ended{}, err
		}
		if err := a.queries.DeleteSecrets(ctx, tx, id); err != nil {
			return User{}, revoke.Ended{}, fmt.Errorf("end what was mailed: %w", err)
		}
		traceID := caller.From(ctx).TraceID
		if err := a.cfg.Mailer.Notify(ctx, tx, mail.EmailChangedByOperator, id, traceID); err != nil {
			return User{}, revoke.Ended{}, err
		}
		if err := a.cfg.Mailer.NotifyFormer(ctx, tx, mail.EmailChangedByOperator, before.Email, traceID); err != nil {
			return User{}, revoke.Ended{}, err
		}
		row, err := a.queries.FindUser(ctx, tx, id)
		if err != nil {
			return User{}, revoke.Ended{}, fmt.Errorf("read the account: %w", err)
		}
		ended, err := a.cfg.Revoker.AppendUser(ctx, tx, audit.UserEmailChanged, id)
		return FromRow(row), ended, err
	})
}
