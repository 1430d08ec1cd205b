// Package login has the life of a session: the attempt at a password, the session and its tokens, their refresh, and
// the logout. It returns its own types, and the services make messages of them.
package login

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// Older is the hook for the failed logins that the older backends counted.
type Older interface {
	// Failures returns the counters of addresses. It leaves out addresses that have none.
	Failures(ctx context.Context, addresses ...string) ([]OlderFailures, error)
	// DeleteFailures deletes the counters of addresses. It logs a failure: then they are carried over again.
	DeleteFailures(ctx context.Context, addresses ...string)
}

// OlderFailures is the count of an older backend for one address.
type OlderFailures struct {
	Address string
	Count   int
	// Ends is how long the counter has left to live.
	Ends time.Duration
}

// Config has the settings of a Flow. All fields are required, except Older and ClockRight.
type Config struct {
	Pool      *pgxpool.Pool
	Sessions  *session.Store
	Keyring   *signing.Keyring
	Passwords *password.Hasher
	// Failures counts the wrong passwords of an account by their source.
	Failures *ratelimit.Attempts
	// Rates counts the sessions that an account starts.
	Rates *ratelimit.GCRA
	// Devices makes the tokens that identify clients. NewDeviceMails is true if owners get a mail about a login without
	// one.
	Devices        *device.Tokens
	NewDeviceMails bool
	Notifier       mail.Notifier
	// Factors checks the second factors of accounts.
	Factors *factors.Flow
	// RequestVerification mails a link and a code that prove an address. ProveFirst refuses a login before the address is
	// proved.
	RequestVerification func(ctx context.Context, tx pgx.Tx, request mail.Request) error
	ProveFirst          bool
	Accounts            Accounts
	Revoker             *revoke.Revoker
	Trail               *audit.Trail
	Redis               *besteffort.Redis
	Afterwards          *besteffort.Afterwards
	// Older is nil if Latchkey accepts nothing of an older backend.
	Older Older
	// AccessTokenTTL is the life of an access token, ClientID its client_id claim.
	AccessTokenTTL time.Duration
	ClientID       string
	// ReturnURLs are the redirect URIs of apps that may get a session from Latchkey's pages. None: no app may.
	ReturnURLs []string
	Logger     *slog.Logger
	// Now is the clock. ClockRight says whether it is right enough to date tokens. Nil: it always is.
	Now        func() time.Time
	ClockRight func() bool
}

// Flow has the flows of this package. Use New.
type Flow struct {
	cfg     Config
	queries *db.Queries
}

// New returns a Flow.
func New(cfg Config) *Flow { return &Flow{cfg: cfg, queries: db.New()} }
