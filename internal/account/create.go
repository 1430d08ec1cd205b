package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// NewUser has the data of a sign-up.
type NewUser struct{ Email, Password, FirstName, LastName string }

// SignUp creates an account whose password meets the rule. With Config.HideAccounts, shown is false: do not show the
// user to the caller, because the answer must be the same if the address is taken.
//
// Nothing before the hash depends on whether the address is taken, so a short deadline reveals nothing. After the hash,
// the work is finished even if the deadline passes: a caller who learns that an address is taken would have created the
// account if it had been free.
func (a *Accounts) SignUp(ctx context.Context, n NewUser, rule Rule) (user User, shown bool, err error) {
	if err := rule("password", n.Password, passwordContext(n.Email, n.FirstName, n.LastName)); err != nil {
		return User{}, false, err
	}
	if err := checkNewAddress("email", n.Email); err != nil {
		return User{}, false, err
	}
	hash, err := a.cfg.Passwords.Hash(ctx, HashClaim(ctx, false), n.Password)
	if err != nil {
		return User{}, false, HashError("hash the password", err)
	}
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	for range 2 { // the second time, the reservation is seen before anything is written
		err = postgres.InTx(ctx, a.cfg.Pool, func(tx pgx.Tx) error {
			user, err = a.create(ctx, tx, n, hash)
			return err
		})
		if !errors.Is(err, errReserved) {
			break
		}
	}
	if err != nil {
		return User{}, false, fmt.Errorf("create the account: %w", err)
	}
	a.cfg.Mailer.Wake()
	return user, !a.cfg.HideAccounts, nil
}

// errReserved means that the address of a new account was given up by a change of address that came at the same time, and
// may be taken back.
var errReserved = errors.New("account: the address is reserved")

func (a *Accounts) create(ctx context.Context, tx pgx.Tx, n NewUser, hash string) (User, error) {
	lookup := address.Lookup(n.Email)
	row, err := a.queries.CreateUser(ctx, tx, db.CreateUserParams{
		Email: n.Email, EmailLookup: lookup, PasswordHash: hash, FirstName: n.FirstName, LastName: n.LastName, Now: a.cfg.Now(),
	})
	created := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return User{}, err
	}
	// The insert may have waited for such a change. The look is there for a taken address too: the same statements.
	switch reserved, err := isReserved(ctx, tx, uuid.Nil, lookup, a.cfg.Now()); {
	case err != nil:
		return User{}, err
	case created && reserved:
		return User{}, errReserved
	}
	if created || a.cfg.HideAccounts { // the same statements for a taken address
		if err := a.askForProof(ctx, tx, n.Email); err != nil {
			return User{}, err
		}
	}
	switch {
	case a.cfg.HideAccounts:
		return User{}, a.recordHidden(ctx, tx, n.Email, lookup, created)
	case !created:
		return User{}, refusal.EmailTaken()
	}
	return FromRow(db.User(row)), a.cfg.Trail.Record(ctx, tx, audit.SignedUp, row.ID, uuid.Nil)
}

// askForProof asks for a mail with which the owner of the address proves it. It is sent only if an account has the
// address and nobody has proved it.
func (a *Accounts) askForProof(ctx context.Context, tx pgx.Tx, email string) error {
	if a.cfg.Verification == VerificationOff {
		return nil
	}
	err := a.cfg.Mailer.RequestVerification(ctx, tx, a.mailRequest(ctx, email, false))
	if errors.Is(err, mail.ErrAddress) {
		return nil // the contract of the older backends accepts addresses to which no mail can be sent
	}
	return err
}

// recordHidden records the call with the same number of statements for a taken address as for a new account: it looks
// the account up, records an event and queues a notice. The notice is for the owner of the taken address. For a new
// account it is addressed to nobody, and so is that for an account which has the value of the column only (see
// findByAddress).
func (a *Accounts) recordHidden(ctx context.Context, tx pgx.Tx, email, lookup string, created bool) error {
	found, err := findByAddress(ctx, a.queries, tx, email, lookup)
	if err != nil {
		return err
	}
	told := found.User.ID
	if created {
		told = uuid.New()
		err = a.cfg.Trail.Record(ctx, tx, audit.SignedUp, found.User.ID, uuid.Nil)
	} else {
		err = a.cfg.Trail.RecordAttemptedSignUp(ctx, tx, told, string(mail.SignUpAttempted))
	}
	if err != nil {
		return err
	}
	return a.cfg.Mailer.Notify(ctx, tx, mail.SignUpAttempted, told, caller.From(ctx).TraceID)
}
