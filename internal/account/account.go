package account

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
	// RequestReset asks for a reset link, RequestLoginCode for a code that logs in, RequestVerification for a link and a
	// code that prove an address: see mail.Outbox. Wake is for requests whose transaction has committed.
	RequestReset(ctx context.Context, request mail.Request) error
	RequestLoginCode(ctx context.Context, request mail.Request) error
	RequestVerification(ctx context.Context, tx pgx.Tx, request mail.Request) error
	Wake()
	// NotifyDeletion tells the owner of an account until when it can be kept, Farewell tells the owner of an address that
	// the account is gone: see mail.Outbox.
	NotifyDeletion(ctx context.Context, tx pgx.Tx, userID uuid.UUID, deleteTime time.Time, traceID string) error
	Farewell(ctx context.Context, tx pgx.Tx, email, traceID string) error
	// SendLetter queues the mail of a secret that is stored, and NotifyFormer a notice to an address that an account had.
	SendLetter(ctx context.Context, tx pgx.Tx, kind mail.LetterKind, link mail.Link) error
	NotifyFormer(ctx context.Context, tx pgx.Tx, notice mail.Notice, to, traceID string) error
}

// Guesses counts the guesses that a session makes at the current password of its account.
type Guesses interface {
	// CheckCurrent returns nil if typed is the password of c, and otherwise refusal.CurrentPassword.
	CheckCurrent(ctx context.Context, sessionID uuid.UUID, c Credential, typed string) error
	// CheckOwner returns nil if typed is the password of c, and otherwise refusal.CurrentPassword. It counts a failure
	// as one of Login.
	CheckOwner(ctx context.Context, c Credential, typed string) error
}

// Older is the hook for reset tokens and counters of the older backends.
type Older interface {
	// FindReset returns the account of a reset token of an older backend, and how to spend it. It returns
	// refusal.ResetTokenInvalid for any other token.
	FindReset(ctx context.Context, resetToken string) (User, ResetSpending, error)
	// DeleteFailures deletes the counters of failed logins that older backends keep for the addresses. It logs a
	// failure.
	DeleteFailures(ctx context.Context, addresses ...string)
}

// Config has the settings of Accounts. All fields are required, except Older and DeletionGrace.
type Config struct {
	Pool *pgxpool.Pool
	// Passwords hashes passwords. Policy checks new ones.
	Passwords *password.Hasher
	Policy    password.Policy
	Guesses   Guesses
	// LoginFailures hashes the network that is stored after a reset. ResetRequests counts calls of ForgotPassword.
	LoginFailures *ratelimit.Attempts
	ResetRequests *ratelimit.Attempts
	// Rates limits the requests for resets of a network, unless Uncounted returns true for the caller.
	Rates     *ratelimit.GCRA
	Uncounted func(ctx context.Context) bool
	Mailer    Mailer
	// HideAccounts makes SignUp give the same answer whether or not the address is taken. The owner of the account gets
	// a mail.
	HideAccounts bool
	// Verification says what an account may do before its address is proved.
	Verification Verification
	// DeletionGrace is how long an account can be kept after its deletion was asked for. 0: it is deleted at once.
	DeletionGrace time.Duration
	// LoginByCode lets people log in with a mailed code.
	LoginByCode bool
	// LinkKey makes the tokens and codes in mails: that of Resets.
	LinkKey []byte
	// UndoLinks offers to undo changes of address. Without a page for the links nobody could use an undo.
	UndoLinks bool
	Revoker   *revoke.Revoker
	Trail     *audit.Trail
	Redis     *besteffort.Redis
	// Older is nil if Latchkey accepts nothing of an older backend.
	Older Older
	// Now is the clock.
	Now func() time.Time
}

// Accounts has the flows of this package. Use New.
type Accounts struct {
	cfg     Config
	queries *db.Queries
}

// New returns the flows.
func New(cfg Config) *Accounts { return &Accounts{cfg: cfg, queries: db.New()} }
