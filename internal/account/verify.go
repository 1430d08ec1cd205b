package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// Verification says what an account may do before its address is proved.
type Verification string

// The values of LATCHKEY_EMAIL_VERIFICATION.
const (
	// VerificationOff: nobody is asked to prove an address.
	VerificationOff Verification = "off"
	// VerificationOptional: SignUp mails a link and a code, and the account can be used without.
	VerificationOptional Verification = "optional"
	// VerificationRequired: there is no login before the address is proved.
	VerificationRequired Verification = "required"
)

// verifyTTL is the life of a link that proves an address, counted from its newest mail.
const verifyTTL = 24 * time.Hour

// verifyAddress is the purpose of the secret with which the owner of an address proves it.
func verifyAddress() purpose {
	return purpose{name: "verify_email", label: "latchkey verify email\x00"}
}

// Mailed is what somebody has from a mail: the token of its link, or its code with the address.
type Mailed struct{ Token, Email, Code string }

// Proof is what somebody shows to prove the address of an account.
type Proof struct {
	Mailed
	// Password is the password of the account, or "".
	Password string
	// By is a session, or nil.
	By *revoke.Authority
}

// Verified is the result of VerifyEmail.
type Verified struct {
	User User
	// PasswordRemoved is true if the account has lost its password, which a stranger may have chosen.
	PasswordRemoved bool
}

// RequestVerification mails a link and a code to the owner of an account whose address is not proved. It does the same
// one insert for every address, as ForgotPassword does.
func (a *Accounts) RequestVerification(ctx context.Context, email string) error {
	if a.cfg.Verification == VerificationOff {
		return refusal.NotEnabled("this service asks nobody to prove an address")
	}
	later, err := a.admitRequest(ctx, "ResendVerification", email)
	if err != nil {
		return err
	}
	return request(email, func(email string) error {
		return a.cfg.Mailer.RequestVerification(ctx, nil, a.mailRequest(ctx, email, later))
	})
}

// VerifyEmail proves the address of an account. With the password or a session of the account nothing else changes.
// Without them, the proof takes from an account that nobody had proved all that a stranger may have planted.
//
// The password is compared after the link or the code was found, so that a call without them is no guess at it.
func (a *Accounts) VerifyEmail(ctx context.Context, p Proof) (Verified, error) {
	shown, err := a.findMailed(ctx, verifyAddress(), p.Mailed)
	if err != nil {
		return Verified{}, err
	}
	by, compared := p.By, ""
	if by != nil && by.UserID != shown.userID {
		by = nil
	}
	if by == nil && p.Password != "" {
		if compared, err = a.checkOwner(ctx, shown.userID, p.Password); err != nil {
			return Verified{}, err
		}
	}
	return revoke.InTx(ctx, a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (Verified, revoke.Ended, error) {
		if by != nil {
			if err := a.cfg.Revoker.Recheck(ctx, tx, *by); err != nil {
				return Verified{}, revoke.Ended{}, err
			}
		}
		row, err := a.lockMailed(ctx, tx, shown)
		switch {
		case err != nil:
			return Verified{}, revoke.Ended{}, err
		case compared != "" && row.PasswordHash != compared: // a new one was set meanwhile
			return Verified{}, revoke.Ended{}, refusal.CurrentPassword()
		case row.IsVerified:
			head, err := a.cfg.Revoker.Head(ctx, tx)
			return Verified{User: FromRow(row)}, head, err
		case by != nil, compared != "":
			return a.prove(ctx, tx, row.ID, by)
		}
		return a.takeBack(ctx, tx, row)
	})
}

// checkOwner compares a password with that of an account, and returns the hash that it matches.
func (a *Accounts) checkOwner(ctx context.Context, userID uuid.UUID, typed string) (hash string, err error) {
	row, err := a.queries.FindUser(ctx, a.cfg.Pool, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", refusal.CurrentPassword()
	}
	if err != nil {
		return "", fmt.Errorf("look the account up: %w", err)
	}
	found, err := Find(ctx, a.cfg.Pool, row.Email)
	if err != nil {
		return "", err
	}
	if found.ID != userID { // changed its address at this moment
		return "", refusal.CurrentPassword()
	}
	return found.Hash, a.cfg.Guesses.CheckOwner(ctx, found, typed)
}

// prove marks the address of an account as proved, and ends nothing. by is the session that shows whose account it is, or
// nil if the password does.
func (a *Accounts) prove(ctx context.Context, tx pgx.Tx, userID uuid.UUID, by *revoke.Authority) (proved Verified, announced revoke.Ended, err error) {
	row, err := a.queries.ProveAddress(ctx, tx, userID)
	if err != nil {
		return Verified{}, revoke.Ended{}, fmt.Errorf("mark the address as proved: %w", err)
	}
	if err := a.cfg.Trail.Record(ctx, tx, audit.EmailVerified, userID, uuid.Nil); err != nil {
		return Verified{}, revoke.Ended{}, err
	}
	if by != nil {
		announced, err = a.cfg.Revoker.AnnounceChangesFor(ctx, tx, *by)
	} else {
		announced, err = a.cfg.Revoker.AnnounceChanges(ctx, tx)
	}
	return Verified{User: FromRow(row)}, announced, err
}

// takeBack gives an account that nobody had proved to the owner of its address, without a password. The account is
// locked. It locks the ledger's head, so it comes last.
func (a *Accounts) takeBack(ctx context.Context, tx pgx.Tx, before db.User) (Verified, revoke.Ended, error) {
	if err := a.removePlanted(ctx, tx, before.ID, password.None); err != nil {
		return Verified{}, revoke.Ended{}, fmt.Errorf("give the account to the owner of its address: %w", err)
	}
	row, err := a.queries.FindUser(ctx, tx, before.ID)
	if err != nil {
		return Verified{}, revoke.Ended{}, fmt.Errorf("read the account: %w", err)
	}
	ended, err := a.cfg.Revoker.AppendUser(ctx, tx, audit.AddressReclaimed, before.ID)
	return Verified{User: FromRow(row), PasswordRemoved: before.PasswordHash != password.None}, ended, err
}

// removePlanted sets the hash of an account, marks its address as proved, and removes all else that a stranger may have
// planted: names that were typed at the sign-up, second factors, and everything that was mailed. The caller ends the
// sessions.
func (a *Accounts) removePlanted(ctx context.Context, tx pgx.Tx, userID uuid.UUID, hash string) error {
	if err := a.queries.TakeBack(ctx, tx, db.TakeBackParams{ID: userID, PasswordHash: hash}); err != nil {
		return err
	}
	if _, err := a.queries.DeleteFactors(ctx, tx, userID); err != nil {
		return err
	}
	return a.queries.DeleteSecrets(ctx, tx, userID)
}

// mailed is a secret that somebody has shown.
type mailed struct {
	owner
	// spend spends it in the transaction, for one caller. The account is locked.
	spend func(ctx context.Context, tx pgx.Tx) error
	// invalid refuses it.
	invalid func() error
}

// findMailed finds the secret of a purpose that somebody shows. A code is counted as tried.
func (a *Accounts) findMailed(ctx context.Context, of purpose, m Mailed) (mailed, error) {
	if hasToken, hasCode := m.Token != "", m.Email != "" && m.Code != ""; hasToken == hasCode || (m.Email != "") != (m.Code != "") {
		return mailed{}, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "token", "TOKEN_OR_CODE",
			"send the token, or the email and the code")
	}
	s := secrets{purpose: of, key: a.cfg.LinkKey, now: a.cfg.Now}
	if m.Token != "" {
		found, err := s.findOwner(ctx, a.cfg.Pool, m.Token)
		if errors.Is(err, errSecret) {
			return mailed{}, refusal.LinkInvalid()
		}
		return mailed{owner: found, invalid: refusal.LinkInvalid, spend: func(ctx context.Context, tx pgx.Tx) error {
			return s.spend(ctx, tx, found, m.Token)
		}}, err
	}
	found, err := s.try(ctx, a.cfg.Pool, typedForms(m.Email), m.Code)
	if errors.Is(err, errSecret) {
		return mailed{}, refusal.CodeInvalid()
	}
	return mailed{owner: found.owner, invalid: refusal.CodeInvalid, spend: func(ctx context.Context, tx pgx.Tx) error {
		return s.spendCode(ctx, tx, found)
	}}, err
}

// lockMailed locks the account of a secret and spends the secret.
func (a *Accounts) lockMailed(ctx context.Context, tx pgx.Tx, m mailed) (db.User, error) {
	row, err := a.queries.LockUser(ctx, tx, m.userID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !row.IsActive {
		return db.User{}, m.invalid()
	}
	if err != nil {
		return db.User{}, fmt.Errorf("lock the account: %w", err)
	}
	err = m.spend(ctx, tx)
	if errors.Is(err, errSecret) {
		err = m.invalid()
	}
	return row, err
}

// mailRequest returns the request of the current caller for a mail.
func (a *Accounts) mailRequest(ctx context.Context, email string, later bool) mail.Request {
	c := caller.From(ctx)
	return mail.Request{Email: email, Later: later, TraceID: c.TraceID, CallID: c.CallID}
}

// issueVerification makes the secret for a mail with which the owner proves the address of the account, which is locked.
func (r Resets) issueVerification(ctx context.Context, tx pgx.Tx, user db.User, link mail.Link) (letter mail.Letter, err error) {
	s := secrets{purpose: verifyAddress(), ttl: verifyTTL, key: r.Key, now: r.Now}
	o := owner{userID: user.ID, address: address.Lookup(user.Email), asker: nobody()}
	if letter.Token, err = s.issue(ctx, tx, o, link.Position); err != nil {
		return mail.Letter{}, err
	}
	if letter.Code, _, err = s.code(ctx, tx, o); err != nil {
		return mail.Letter{}, err
	}
	letter.To, letter.Valid = user.Email, verifyTTL
	return letter, r.trail().Write(ctx, tx, audit.Event{
		Time: r.Now(), Kind: audit.VerificationMailed, UserID: user.ID, TraceID: link.TraceID, CallID: link.CallID,
	})
}
