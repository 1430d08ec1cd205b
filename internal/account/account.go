package account

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// Mailer queues mails.
type Mailer interface {
	mail.Notifier
	// RequestReset asks for a reset link, see mail.Outbox.
	RequestReset(ctx context.Context, request mail.ResetRequest) error
}

// Guesses counts the guesses at the current password of an account by one of its sessions.
type Guesses interface {
	// CheckCurrent returns nil when typed is the password of c, and refusal.CurrentPassword when it is not.
	CheckCurrent(ctx context.Context, sessionID uuid.UUID, c Credential, typed string) error
}

// Older is the hook for what the older backends left of accounts.
type Older interface {
	// FindReset returns the account of a reset token of theirs, and how it is spent; refusal.ResetTokenInvalid for any other.
	FindReset(ctx context.Context, resetToken string) (User, ResetSpending, error)
	// DeleteFailures ends their counters of failed logins of the addresses. A failure of that is logged.
	DeleteFailures(ctx context.Context, addresses ...string)
}

// Config is what Accounts work with. All fields are required but Older.
type Config struct {
	Pool *pgxpool.Pool
	// Passwords hashes, Policy is for new passwords.
	Passwords *password.Hasher
	Policy    password.Policy
	Guesses   Guesses
	// LoginFailures makes of a network what is stored of it after a reset, ResetRequests counts calls of ForgotPassword.
	LoginFailures *ratelimit.Attempts
	ResetRequests *ratelimit.Attempts
	// Rates counts the requests for resets of a network, unless Uncounted says that the caller's are not counted.
	Rates     *ratelimit.GCRA
	Uncounted func(ctx context.Context) bool
	Mailer    Mailer
	// HideAccounts has SignUp answer alike whether or not the address is taken, and tell
	// the account's owner by mail.
	HideAccounts bool
	Revoker      *revoke.Revoker
	Trail        *audit.Trail
	Redis        *besteffort.Redis
	// Older is nil when nothing of an older backend is honoured.
	Older Older
	// Now is the clock.
	Now func() time.Time
}

// Accounts are the flows of this package. Use New.
type Accounts struct {
	cfg     Config
	queries *db.Queries
}

// New returns the flows.
func New(cfg Config) *Accounts { return &Accounts{cfg: cfg, queries: db.New()} }
