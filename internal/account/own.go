package account

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const renamesScope = "UpdateAccount of an account"

// renamesRate limits the rows that one account can make the service store (see internal/revoke).
func renamesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 30} }

// Own returns the account of a session.
func (a *Accounts) Own(ctx context.Context, by revoke.Authority) (User, error) {
	user, err := a.ByID(ctx, by.UserID)
	if err == nil && user.ID == uuid.Nil {
		err = refusal.AccountGone()
	}
	return user, err
}

// Names are the new names of an account. A name that is nil stays as it is.
type Names struct{ First, Last *string }

// Rename changes the names of the account of a session, and returns the account when every replica shows the names. It
// writes nothing if they are the same as before.
func (a *Accounts) Rename(ctx context.Context, by revoke.Authority, names Names) (User, error) {
	if err := a.cfg.Redis.Allow(ctx, renamesScope, by.UserID.String(), renamesRate()); err != nil {
		return User{}, err
	}
	return revoke.Change(ctx, a.cfg.Revoker, by, func(ctx context.Context, tx pgx.Tx) (User, error) {
		user, err := a.lock(ctx, tx, by.UserID)
		if err != nil || !user.rename(names) {
			return user, err
		}
		err = a.queries.RenameUser(ctx, tx, db.RenameUserParams{ID: by.UserID, FirstName: user.FirstName, LastName: user.LastName})
		if err != nil {
			return User{}, fmt.Errorf("change the names: %w", err)
		}
		return user, a.cfg.Trail.Record(ctx, tx, audit.AccountUpdated, by.UserID, by.SessionID)
	})
}

// rename sets the names, and returns whether one has changed.
func (u *User) rename(n Names) bool {
	before := *u
	if n.First != nil {
		u.FirstName = *n.First
	}
	if n.Last != nil {
		u.LastName = *n.Last
	}
	return u.FirstName != before.FirstName || u.LastName != before.LastName
}
