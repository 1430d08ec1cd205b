// Package backend implements the hooks through which the core uses the data of older backends: their tokens, resets and
// counters of failed logins. It serves their contract as well. docs/legacy-removal.md lists the hooks.
package backend

import (
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Left has the data that the older backends left. All fields are required.
type Left struct {
	// Tokens checks the tokens that they have signed.
	Tokens *legacy.Tokens
	// Store reads the data that they left in Redis.
	Store *legacy.Store
}

// Config has the settings of a Backend. All fields are required.
type Config struct {
	Left     *Left
	Pool     *pgxpool.Pool
	Sessions *session.Store
	Keyring  *signing.Keyring
	Trail    *audit.Trail
	Logger   *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// Refusal returns the server's refusal for an error, or nil.
	Refusal func(error) *refusal.Error
}

// Backend accepts the tokens, resets and counters that the older backends left. It implements auth.Older, account.Older
// and login.Older. Use New, and Connect before the first call.
type Backend struct {
	cfg     Config
	queries *db.Queries
	trail   *audit.Trail
	log     *slog.Logger

	revoker    *revoke.Revoker
	validation *validate.Validator
	accounts   *account.Accounts
	logins     *login.Flow
}

// New returns a Backend that can be a hook of the flows.
func New(cfg Config) *Backend {
	return &Backend{cfg: cfg, queries: db.New(), trail: cfg.Trail, log: cfg.Logger}
}

// Connect gives the Backend the flows that it calls itself.
func (b *Backend) Connect(revoker *revoke.Revoker, validation *validate.Validator, accounts *account.Accounts, logins *login.Flow) {
	b.revoker, b.validation, b.accounts, b.logins = revoker, validation, accounts, logins
}

// isAccepting reports whether the data of the older backends is still accepted: all of it, until the date that is set.
func (b *Backend) isAccepting() bool {
	return b.cfg.Now().Before(b.cfg.Left.Tokens.AcceptUntil())
}
