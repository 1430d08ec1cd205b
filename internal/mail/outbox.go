package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/internal/jobs"
)

const (
	// maxAddress bounds what is stored: 64 + 1 + 255 octets (RFC 5321, 4.5.3.1).
	maxAddress = 320
	// maxTraceID bounds the caller's id in the same row.
	maxTraceID = 128
)

// ErrAddress means that what was typed cannot be an address: it is empty, longer
// than 320 bytes, not UTF-8 or holds control characters. It depends on the input
// alone, so that telling it reveals nothing about accounts.
var ErrAddress = errors.New("mail: not an address")

// Accounts answers the questions that the outbox has for the rest of the service while it sends. Errors must
// not hold a token: they are logged. IssueReset and Address are called again when a send failed.
type Accounts interface {
	// FindResetAccounts returns the active accounts of the addresses, by the index of the address, without
	// the accounts that were sent enough links lately. It reads and counts in tx.
	FindResetAccounts(ctx context.Context, tx pgx.Tx, emails []string) (map[int]uuid.UUID, error)
	// IssueReset returns the reset token of the account, the same one while it lives, and
	// the address to send it to. ok is false when the account is gone or disabled, or its
	// sessions were ended after the link's position of the ledger: nothing is sent then.
	IssueReset(ctx context.Context, link ResetLink) (to, token string, ok bool, err error)
	// Address returns the address of an account, ok false when the account is gone.
	Address(ctx context.Context, userID uuid.UUID) (to string, ok bool, err error)
	// AdmitNotice counts a notice that is about to be queued in tx, and reports whether the account's owner may get it. It
	// is not asked about [PasswordChanged].
	AdmitNotice(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID) (bool, error)
}

// Config configures [New].
type Config struct {
	// Pool is the database with the migrated schema. Required.
	Pool *pgxpool.Pool
	// Jobs works the outbox's jobs, on the same database; New adds its workers to it. Required.
	Jobs *jobs.Queue
	// Accounts and Sender are required.
	Accounts Accounts
	Sender   Sender
	// ResetURL is the page that a reset link leads to, see [ParseResetURL]: the
	// link is this with token=… in the fragment where there is one, else in the query. Required.
	ResetURL string
	// InsecureLinks lets ResetURL be of an app's scheme, or http in a local network.
	InsecureLinks bool
	// ResetTTL is how long a reset token works; the mail says so. Required.
	ResetTTL time.Duration
	// ProductName is what the mails call the service, one line of text. Required.
	ProductName string
	// Templates are the operator's own words. Nil means those of this package.
	Templates *Templates
	// Logger gets failures (warnings; errors when a mail is given up on), with job
	// id and trace id, without addresses. Nil means no log.
	Logger *slog.Logger
	// Now dates the mails. Nil means time.Now. Retries follow the machine's clock.
	Now func() time.Time

	// waits replaces defaultWaits in tests.
	waits []time.Duration
}

// Outbox queues mails and sends them. Any number of replicas may run one on the same database; queueing works before
// the start of Config.Jobs, sending does not.
type Outbox struct {
	pool     *pgxpool.Pool
	jobs     *jobs.Queue
	accounts Accounts
	delivery *delivery
	now      func() time.Time

	notice int // attempts of a notice
}

// New checks the settings and builds the outbox; it does not touch the database.
func New(cfg Config) (*Outbox, error) {
	if cfg.Pool == nil || cfg.Jobs == nil || cfg.Accounts == nil || cfg.Sender == nil {
		return nil, errors.New("mail: Pool, Jobs, Accounts and Sender are required")
	}
	if cfg.ResetTTL < time.Second {
		return nil, errors.New("mail: ResetTTL must be at least one second")
	}
	page, err := ParseResetURL(cfg.ResetURL, cfg.InsecureLinks)
	if err != nil {
		return nil, err
	}
	product := cfg.ProductName
	if product == "" || hasControl(product) || !utf8.ValidString(product) {
		return nil, errors.New("mail: ProductName must be one line of text")
	}
	letters, err := newComposer(product, page, cfg.ResetTTL, cfg.Templates)
	if err != nil {
		return nil, err
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	d := &delivery{
		pool: cfg.Pool, accounts: cfg.Accounts, sender: cfg.Sender,
		letters: letters, logger: logger, now: now, waits: cfg.waits,
		look: make(chan struct{}, 1),
	}
	if len(d.waits) == 0 {
		d.waits = defaultWaits()
	}
	if err := d.register(cfg.Jobs); err != nil {
		return nil, fmt.Errorf("mail: outbox: %w", err)
	}
	return &Outbox{
		pool:     cfg.Pool,
		jobs:     cfg.Jobs,
		accounts: cfg.Accounts,
		delivery: d,
		now:      now,
		notice:   len(d.waits) + 1 + noticeExtra,
	}, nil
}

// register adds the outbox's workers, and the look-up of accounts, which each replica does for the requests it got.
func (d *delivery) register(queue *jobs.Queue) error {
	return errors.Join(
		jobs.AddWorker(queue, &linkWorker{d: d}),
		jobs.AddWorker(queue, &noticeWorker{d: d}),
		jobs.AddWorker(queue, &requestWorker{d: d}),
		jobs.AddWorker(queue, &changedWorker{d: d}),
		queue.AddTask(func(ctx context.Context) { d.lookUp(ctx, queue) }),
	)
}

func isAddress(email string) bool {
	return email != "" && len(email) <= maxAddress && utf8.ValidString(email) && !hasControl(email)
}

// Notifier queues notices; an [Outbox] is one.
type Notifier interface {
	// Notify queues a mail that says to the owner of an account what has just happened to it. The job is part of tx, as
	// the change itself should be, and is lost with it. traceID is for the log and may be empty. A notice that
	// [Accounts] does not admit, because the account had such notices lately, is left out without an error.
	Notify(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID, traceID string) error
}

// Notify implements [Notifier]. With a nil tx the job is inserted at once.
func (o *Outbox) Notify(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID, traceID string) error {
	if !notice.known() {
		return fmt.Errorf("mail: unknown notice %q", string(notice))
	}
	if tx == nil {
		return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error { return o.Notify(ctx, tx, notice, userID, traceID) })
	}
	if notice != PasswordChanged {
		admitted, err := o.accounts.AdmitNotice(ctx, tx, notice, userID)
		if err != nil {
			return fmt.Errorf("mail: count notice: %w", err)
		}
		if !admitted {
			return nil
		}
	}
	args := noticeArgs{Notice: notice, UserID: userID, HappenedAt: o.now().UTC(), TraceID: cleanTraceID(traceID)}
	if err := o.jobs.Insert(ctx, tx, args, &river.InsertOpts{Queue: jobs.MailNotices, MaxAttempts: o.notice}); err != nil {
		return fmt.Errorf("mail: queue the notice: %w", err)
	}
	return nil
}

// cleanTraceID keeps an id that a caller has chosen from spoiling the row: jsonb
// has no NUL, and the log has no use for a long one.
func cleanTraceID(id string) string {
	if len(id) > maxTraceID || !utf8.ValidString(id) || hasControl(id) {
		return ""
	}
	return id
}

// Stats describes the outbox for metrics.
type Stats struct {
	// Pending mails are not sent and not given up on.
	Pending int64
	// Failing is how many of those have failed at least once.
	Failing int64
	// GivenUp is how many mails were given up on within the last 24 hours.
	GivenUp int64
	// Oldest is the age of the oldest pending mail, 0 without one.
	Oldest time.Duration
}

// Stats counts with one statement that reads the requests that wait, and by index the
// pending and the given-up rows.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	const query = `
		SELECT asked.n + jobs.pending, jobs.failing, jobs.given_up,
		       coalesce(extract(epoch FROM now() - least(asked.oldest, jobs.oldest)), 0)::float8
		FROM (SELECT count(*) AS n, min(requested_at) AS oldest FROM reset_requests) AS asked, (
			SELECT count(*) FILTER (WHERE finalized_at IS NULL) AS pending,
			       count(*) FILTER (WHERE finalized_at IS NULL AND cardinality(errors) > 0) AS failing,
			       count(*) FILTER (WHERE finalized_at IS NOT NULL) AS given_up,
			       min(created_at) FILTER (WHERE finalized_at IS NULL) AS oldest
			FROM river_job
			WHERE queue = ANY ($1)
			  AND state IN ('available', 'running', 'retryable', 'scheduled', 'discarded', 'cancelled')
		) AS jobs`
	var (
		s   Stats
		age float64
	)
	err := o.pool.QueryRow(ctx, query, []string{jobs.MailLinks, jobs.MailNotices, jobs.MailFormer}).Scan(&s.Pending, &s.Failing, &s.GivenUp, &age)
	if err != nil {
		return Stats{}, fmt.Errorf("mail: outbox statistics: %w", err)
	}
	s.Oldest = max(0, time.Duration(age*float64(time.Second)))
	return s, nil
}
