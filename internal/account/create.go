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

// NewUser is what somebody signs up with.
type NewUser struct{ Email, Password, FirstName, LastName string }

// SignUp makes an account whose password meets the rule. With Config.HideAccounts shown is false: the user must not be
// shown, since an address that is taken has the same answer.
//
// Nothing before the hash depends on whether the address is taken, so that a short deadline does
// not tell; and what begins after it ends, whatever the deadline: a caller who learns that
// an address is taken would have made the account had it been free.
func (a *Accounts) SignUp(ctx context.Context, n NewUser, rule Rule) (user User, shown bool, err error) {
	if err := rule("password", n.Password, passwordContext(n.Email, n.FirstName, n.LastName)); err != nil {
		return User{}, false, err
	}
	if err := checkNewAddress(n.Email); err != nil {
		return User{}, false, err
	}
	hash, err := a.cfg.Passwords.Hash(ctx, HashClaim(ctx, false), n.Password)
	if err != nil {
		return User{}, false, HashError("hash the password", err)
	}
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	err = postgres.InTx(ctx, a.cfg.Pool, func(tx pgx.Tx) error {
		user, err = a.create(ctx, tx, n, hash)
		return err
	})
	if err != nil {
		return User{}, false, fmt.Errorf("create the account: %w", err)
	}
	return user, !a.cfg.HideAccounts, nil
}

func (a *Accounts) create(ctx context.Context, tx pgx.Tx, n NewUser, hash string) (User, error) {
	lookup := address.Lookup(n.Email)
	row, err := a.queries.CreateUser(ctx, tx, db.CreateUserParams{
		Email: n.Email, EmailLookup: lookup, PasswordHash: hash, FirstName: n.FirstName, LastName: n.LastName, Now: a.cfg.Now(),
	})
	created := err == nil
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return User{}, err
	case a.cfg.HideAccounts:
		return User{}, a.recordHidden(ctx, tx, n.Email, lookup, created)
	case !created:
		return User{}, refusal.EmailTaken()
	}
	return FromRow(row), a.cfg.Trail.Record(ctx, tx, audit.SignedUp, row.ID, uuid.Nil)
}

// recordHidden writes what happened, with as many statements for a taken address as for
// a new account: the account is looked up, an event recorded and a notice queued, which
// goes to its owner, and for a new account to nobody. (An account that has only the
// value of the column, see findByAddress, is nobody's too.)
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
