// Package factors is a flow: it enrols, checks, lists and removes the second factors of accounts. internal/login asks for
// one after the password, and this package says whether the answer is right.
package factors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/passkey"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/seal"
)

// Kind is a kind of factor. Those of second factors are stored: do not change them.
type Kind string

// The kinds.
const (
	// Password is the first factor. It is listed, and not stored here.
	Password Kind = "password"
	// TOTP is an authenticator app. An account has one at most.
	TOTP Kind = "totp"
	// Passkey is a passkey. It logs in by itself, and is a second factor after a password.
	Passkey Kind = "passkey"
	// RecoveryCodes stand in for a second factor that is lost. An account with them has a second factor.
	RecoveryCodes Kind = account.RecoveryCodes
)

// SealLabel is for the Sealer of a Flow. Stored factors are sealed under it: do not change it.
const SealLabel = "latchkey seal v1"

const changesScope = "Factors of an account"

// changesRate limits the rows that one account can make the service store (see internal/revoke), and the mails about
// changes.
func changesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 30} }

// Config has the settings of a Flow. All fields are required, except Passkeys.
type Config struct {
	Pool     *pgxpool.Pool
	Sealer   *seal.Sealer
	Notifier mail.Notifier
	Revoker  *revoke.Revoker
	Trail    *audit.Trail
	Redis    *besteffort.Redis
	// Passkeys is the relying party, or nil without passkeys.
	Passkeys *passkey.Party
	// LoginByCode says that a mailed code logs in, so that an account always has a way in.
	LoginByCode bool
	// Product is the name of the service in authenticator apps.
	Product    string
	Afterwards *besteffort.Afterwards
	// Now is the clock.
	Now func() time.Time
}

// Flow has the flows of this package. Use New.
type Flow struct {
	cfg     Config
	queries *db.Queries
}

// New returns a Flow.
func New(cfg Config) *Flow { return &Flow{cfg: cfg, queries: db.New()} }

// Factor is one way in which the owner of an account proves who they are.
type Factor struct {
	Kind Kind
	// ID is uuid.Nil for a password.
	ID   uuid.UUID
	Name string
	// CreateTime is zero for a password. LastUseTime is zero if it was never used, and for a password.
	CreateTime, LastUseTime time.Time
	// Remaining is how many recovery codes are left.
	Remaining int
}

// List returns the factors of an account: the password if there is one, the second factors with the oldest first, and
// the recovery codes. It refuses an account that is gone.
func (f *Flow) List(ctx context.Context, userID uuid.UUID) ([]Factor, error) {
	owner, err := account.FindOwner(ctx, f.cfg.Pool, userID)
	if err != nil {
		return nil, err
	}
	var list []Factor
	if owner.Hash != password.None {
		list = append(list, Factor{Kind: Password})
	}
	rows, err := f.queries.ListFactors(ctx, f.cfg.Pool, userID)
	if err != nil {
		return nil, fmt.Errorf("list the factors: %w", err)
	}
	for _, row := range rows {
		list = append(list, Factor{
			Kind: Kind(row.Kind), ID: row.ID, Name: row.Name, CreateTime: row.CreatedAt, LastUseTime: timeOf(row.LastUsedAt),
		})
	}
	set, err := f.queries.FindRecoverySet(ctx, f.cfg.Pool, userID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return list, nil
	case err != nil:
		return nil, fmt.Errorf("look the recovery codes up: %w", err)
	}
	return append(list, Factor{
		Kind: RecoveryCodes, ID: set.ID, CreateTime: set.CreatedAt, LastUseTime: timeOf(set.LastUsedAt), Remaining: int(set.Remaining),
	}), nil
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// change makes a change to the factors of the account of a session. do gets the account's second factors, the oldest
// first. The account is locked, so that they stay as they are.
func change[T any](
	ctx context.Context, f *Flow, by revoke.Authority, do func(ctx context.Context, tx pgx.Tx, second []db.Factor) (T, error),
) (T, error) {
	return revoke.Change(ctx, f.cfg.Revoker, by, func(ctx context.Context, tx pgx.Tx) (none T, err error) {
		second, err := f.queries.ListFactors(ctx, tx, by.UserID)
		if err != nil {
			return none, fmt.Errorf("list the factors: %w", err)
		}
		if err := by.NeedFactor(second); err != nil {
			return none, err
		}
		return do(ctx, tx, second)
	})
}

// RemoveAll removes the second factors and the recovery codes of an account and ends all its sessions, for an operator
// who has made sure that the owner asks for it. It refuses an id that no account has.
func (f *Flow) RemoveAll(ctx context.Context, userID uuid.UUID) error {
	_, err := revoke.InTx(ctx, f.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		var none struct{}
		switch _, err := f.queries.LockUser(ctx, tx, userID); {
		case errors.Is(err, pgx.ErrNoRows):
			return none, revoke.Ended{}, refusal.AccountNotFound()
		case err != nil:
			return none, revoke.Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		if _, err := f.queries.DeleteFactors(ctx, tx, userID); err != nil {
			return none, revoke.Ended{}, fmt.Errorf("remove the factors: %w", err)
		}
		if err := f.notify(ctx, tx, mail.FactorRemoved, userID); err != nil {
			return none, revoke.Ended{}, err
		}
		ended, err := f.cfg.Revoker.AppendUser(ctx, tx, audit.UserFactorsRemoved, userID)
		return none, ended, err
	})
	return err
}
