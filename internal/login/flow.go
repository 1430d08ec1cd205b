// Package login has the life of a session: the attempt at a password, the session and its tokens, their refresh, and the
// logout. What it answers is in types of its own; the services make messages of them.
package login

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// Older is the hook for the failed logins that the older backends counted.
type Older interface {
	// Failures reads the counters of addresses; those without one are left out.
	Failures(ctx context.Context, addresses ...string) ([]OlderFailures, error)
	// DeleteFailures ends the counters of addresses. A failure of that is logged: they are carried over again.
	DeleteFailures(ctx context.Context, addresses ...string)
}

// OlderFailures is what an older backend has counted for one address.
type OlderFailures struct {
	Address string
	Count   int
	// Ends is how long the counter lives on.
	Ends time.Duration
}

// Config is what a Flow works with. All fields are required but Older and ClockRight.
type Config struct {
	Pool      *pgxpool.Pool
	Sessions  *session.Store
	Keyring   *signing.Keyring
	Passwords *password.Hasher
	// Failures counts wrong passwords of an account by where they come from.
	Failures *ratelimit.Attempts
	// Rates counts the sessions that an account begins.
	Rates *ratelimit.GCRA
	// Devices makes the tokens by which clients are known. NewDeviceMails tells owners of
	// logins without one.
	Devices        *device.Tokens
	NewDeviceMails bool
	Notifier       mail.Notifier
	Revoker        *revoke.Revoker
	Trail          *audit.Trail
	Redis          *besteffort.Redis
	Afterwards     *besteffort.Afterwards
	// Older is nil when nothing of an older backend is honoured.
	Older Older
	// AccessTokenTTL is the life of an access token, ClientID its client_id claim.
	AccessTokenTTL time.Duration
	ClientID       string
	Logger         *slog.Logger
	// Now is the clock. ClockRight says whether it can date tokens: nil, always.
	Now        func() time.Time
	ClockRight func() bool
}

// Flow is the flows of this package. Use New.
type Flow struct {
	cfg     Config
	queries *db.Queries
}

// New returns the flows.
func New(cfg Config) *Flow { return &Flow{cfg: cfg, queries: db.New()} }
