package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/idna"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// Credential is an account with the data for a check of its password.
type Credential struct {
	User
	// Hash is the stored hash. Give it only to internal/password and to the queries that replace it.
	Hash string
	// Lookup is the lookup form under which the typed address is counted, also if no account has the address.
	Lookup string
	// Position is the ledger's position, which was read with the hash. A revocation after it refuses the session.
	Position int64
	// PasswordEpoch is the number of the password. It is 0 before the first password that was counted.
	PasswordEpoch int64
	// DevicesSince is when the account was given its first device token, ResetTime when its password was last reset,
	// and ResetNetwork the network that reset it. Zero values mean never.
	DevicesSince *time.Time
	ResetTime    *time.Time
	ResetNetwork []byte
	// Factors are the kinds of the account's second factors. If there are any, the password is not enough.
	Factors []string
	// Recoverable is true if the account has recovery codes left.
	Recoverable bool
}

func credential(row db.FindUserByEmailRow, lookup string) Credential {
	return Credential{
		User: FromRow(row.User), Hash: row.User.PasswordHash, Lookup: lookup, Position: row.Position, PasswordEpoch: row.PasswordEpoch,
		DevicesSince: row.DevicesSince, ResetTime: row.ResetAt, ResetNetwork: row.ResetNetwork,
		Factors: row.Factors, Recoverable: row.Recoverable,
	}
}

// Find returns the account that somebody means by an address. If there is none, its id is nil and there is no error.
// The ledger's position is read with the hash, before the slow steps, so that a revocation during them refuses the
// session.
func Find(ctx context.Context, on db.DBTX, email string) (Credential, error) {
	row, lookup, err := findTyped(ctx, db.New(), on, email)
	return credential(row, lookup), err
}

// FindOwner returns the account of a session, which has shown its access token. It refuses an account that is gone. The
// result has neither Position, nor Factors, nor the guards of the password.
func FindOwner(ctx context.Context, on db.DBTX, id uuid.UUID) (Credential, error) {
	row, err := db.New().FindUser(ctx, on, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Credential{}, refusal.AccountGone()
	}
	if err != nil {
		return Credential{}, fmt.Errorf("look the account up: %w", err)
	}
	return Credential{User: FromRow(row), Hash: row.PasswordHash, Lookup: address.Lookup(row.Email)}, nil
}

// Find is the function Find on the pool of the accounts.
func (a *Accounts) Find(ctx context.Context, email string) (User, error) {
	found, err := Find(ctx, a.cfg.Pool, email)
	return found.User, err
}

// ByID returns an account. If there is none, its id is nil and there is no error.
func (a *Accounts) ByID(ctx context.Context, id uuid.UUID) (User, error) {
	row, err := a.queries.FindUser(ctx, a.cfg.Pool, id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return User{}, fmt.Errorf("look the account up: %w", err)
	}
	return FromRow(row), nil
}

// Known is ByID, but refuses an id that no account has.
func (a *Accounts) Known(ctx context.Context, id uuid.UUID) (User, error) {
	user, err := a.ByID(ctx, id)
	if err == nil && user.ID == uuid.Nil {
		err = refusal.AccountNotFound()
	}
	return user, err
}

// Before is the place in the list of accounts after which a page begins.
type Before struct {
	Time time.Time
	ID   uuid.UUID
}

// Newest returns the place before the first account of the list. All accounts were created before the year 9999.
func Newest() Before {
	return Before{time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC), uuid.Max}
}

// RecoveryCodes is the kind of factor for which List returns the accounts with recovery codes, which are no second factor
// of their own.
const RecoveryCodes = "recovery_codes"

// List returns at most most accounts, the newest first: those with a second factor of the kind factor, or all if it is
// "". A page begins after the last account of the page before, not at a count of accounts: an account that is created or
// deleted in between neither hides another nor shows it twice.
func (a *Accounts) List(ctx context.Context, before Before, most int32, factor string) ([]User, error) {
	var rows []db.User
	var err error
	switch factor {
	case "":
		rows, err = a.queries.ListUsers(ctx, a.cfg.Pool, db.ListUsersParams{Before: before.Time, BeforeID: before.ID, PageSize: most})
	case RecoveryCodes:
		rows, err = a.queries.ListUsersByRecoveryCodes(ctx, a.cfg.Pool, db.ListUsersByRecoveryCodesParams{
			Before: before.Time, BeforeID: before.ID, PageSize: most,
		})
	default:
		rows, err = a.queries.ListUsersByFactor(ctx, a.cfg.Pool, db.ListUsersByFactorParams{
			Before: before.Time, BeforeID: before.ID, Kind: factor, PageSize: most,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the accounts: %w", err)
	}
	users := make([]User, len(rows))
	for i, row := range rows {
		users[i] = FromRow(row)
	}
	return users, nil
}

// lock locks the account's row. A change takes this lock first.
func (a *Accounts) lock(ctx context.Context, tx pgx.Tx, id uuid.UUID) (User, error) {
	row, err := a.queries.LockUser(ctx, tx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, refusal.AccountNotFound()
	}
	if err != nil {
		return User{}, fmt.Errorf("lock the account: %w", err)
	}
	return FromRow(row), nil
}

// findByAddress returns the account with the address. If there is none, its id is nil and there is no error. It does
// not rely on the lookup column alone: an earlier version, or somebody by hand, may have written another form into it,
// and nobody must get the account of somebody else.
func findByAddress(ctx context.Context, queries *db.Queries, on db.DBTX, email, lookup string) (db.FindUserByEmailRow, error) {
	found, err := queries.FindUserByEmail(ctx, on, db.FindUserByEmailParams{Email: email, EmailLookup: lookup})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return db.FindUserByEmailRow{}, nil
	case err != nil:
		return db.FindUserByEmailRow{}, fmt.Errorf("look the address up: %w", err)
	case !hasAddress(found.User, email, lookup):
		return db.FindUserByEmailRow{}, nil
	}
	return found, nil
}

// bare returns a typed address without the white space around it, which autofill and pasting add. Look for the exact
// text first: older backends may have stored such spaces.
func bare(email string) string { return strings.TrimSpace(email) }

// findTyped is findByAddress for a typed address. If nobody has the exact text, it looks for the bare form. lookup is
// the form under which attempts are counted. It is that of the bare form unless somebody has the exact text, so that
// adding spaces does not evade a count.
func findTyped(ctx context.Context, queries *db.Queries, on db.DBTX, email string) (found db.FindUserByEmailRow, lookup string, err error) {
	lookup = address.Lookup(email)
	found, err = findByAddress(ctx, queries, on, email, lookup)
	trimmed := bare(email)
	if err != nil || found.User.ID != uuid.Nil || trimmed == "" || trimmed == email {
		return found, lookup, err
	}
	lookup = address.Lookup(trimmed)
	found, err = findByAddress(ctx, queries, on, trimmed, lookup)
	return found, lookup, err
}

func hasAddress(user db.User, email, lookup string) bool {
	return user.ID != uuid.Nil && (user.Email == email || address.Lookup(user.Email) == lookup)
}

// checkNewAddress refuses addresses that no account may get, in a field of the request.
func checkNewAddress(field, email string) error {
	err := address.Check(email)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, address.ErrLookAlike):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "EMAIL_LOOK_ALIKE", err.Error())
	default:
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "EMAIL_DOMAIN", err.Error())
	}
}

// passwordContext lists the words that a new password must not be made of. It has the domain in readable form, because
// nobody types an A-label in a password.
func passwordContext(email, firstName, lastName string) []string {
	local, domain, _ := strings.Cut(email, "@")
	readable, err := idna.ToUnicode(domain)
	if err != nil {
		readable = domain
	}
	return []string{email, local, readable, firstName, lastName, "latchkey"}
}
