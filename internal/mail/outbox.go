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
	// maxAddress limits stored addresses: 64 + 1 + 255 octets (RFC 5321, 4.5.3.1).
	maxAddress = 320
	// maxTraceID limits the caller's id in the same row.
	maxTraceID = 128
)

// ErrAddress means that the typed text cannot be an address: it is empty, longer than 320 bytes, not UTF-8 or has
// control characters. It depends only on the text, so it reveals nothing about accounts.
var ErrAddress = errors.New("mail: not an address")

// Accounts has the functions of the account store that the outbox needs to send mails. Errors must not hold a token,
// because they are logged. If a send fails, IssueReset and Address are called again.
type Accounts interface {
	// FindResetAccounts returns the active accounts of the addresses, under the index of the address. It leaves out
	// accounts that were sent enough links lately. It reads and counts in tx.
	FindResetAccounts(ctx context.Context, tx pgx.Tx, emails []string) (map[int]uuid.UUID, error)
	// IssueReset returns the reset token of the account, which is the same as long as it lives, and the address to send
	// it to. ok is false if the account does not exist or is disabled, or if its sessions were ended after the link's
	// position of the ledger. Then nothing is sent.
	IssueReset(ctx context.Context, link Link) (to, token string, ok bool, err error)
	// Address returns the address of an account. ok is false if the account does not exist.
	Address(ctx context.Context, userID uuid.UUID) (to string, ok bool, err error)
	// AdmitNotice counts a notice that is about to be queued in tx, and returns whether the owner of the account may
	// get it. It is not called for [PasswordChanged].
	AdmitNotice(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID) (bool, error)
	// FindLetterAccounts is FindResetAccounts for mails of a kind.
	FindLetterAccounts(ctx context.Context, tx pgx.Tx, kind LetterKind, emails []string) (map[int]uuid.UUID, error)
	// IssueLetter returns the secret that a mail of this kind holds. If To is "", nothing is sent.
	IssueLetter(ctx context.Context, kind LetterKind, link Link) (Letter, error)
}

// Config configures [New].
type Config struct {
	// Pool is the database with the migrated schema. Required.
	Pool *pgxpool.Pool
	// Jobs works the jobs of the outbox, on the same database. New adds its workers to it. Required.
	Jobs *jobs.Queue
	// Accounts and Sender are required.
	Accounts Accounts
	Sender   Sender
	// ResetURL is the page to which a reset link leads, see [ParseResetURL]. The link has token=… in the fragment if
	// there is one, or else in the query. Required.
	ResetURL string
	// VerifyURL is the page to which a link that proves an address leads. "": such mails have a code only.
	VerifyURL string
	// EmailChangeURL is the page to which links about a change of address lead, see [ParseEmailChangeURL]. "": such mails
	// have a code only.
	EmailChangeURL string
	// InsecureLinks allows a URL with the scheme of an app, or http in a local network.
	InsecureLinks bool
	// ResetTTL is how long a reset token can be used. The mail says so. Required.
	ResetTTL time.Duration
	// ProductName is the name of the service in mails, one line of text. Required.
	ProductName string
	// Templates are the operator's own texts. Nil: those of this package.
	Templates *Templates
	// Logger logs failures (as warnings, or as errors if a mail is given up), with job id and trace id, without
	// addresses. Nil: no log.
	Logger *slog.Logger
	// Now gives the time in the mails. Nil: time.Now. Retries use the machine's clock.
	Now func() time.Time

	// waits replaces defaultWaits in tests.
	waits []time.Duration
}

// Outbox queues mails and sends them. Any number of replicas may use one database. Mails can be queued before
// Config.Jobs was started, but are not sent before.
type Outbox struct {
	pool     *pgxpool.Pool
	jobs     *jobs.Queue
	accounts Accounts
	delivery *delivery
	now      func() time.Time

	notice int // attempts at a notice
}

// New checks the settings and makes the outbox. It does not use the database.
func New(cfg Config) (*Outbox, error) {
	if cfg.Pool == nil || cfg.Jobs == nil || cfg.Accounts == nil || cfg.Sender == nil {
		return nil, errors.New("mail: Pool, Jobs, Accounts and Sender are required")
	}
	if cfg.ResetTTL < time.Second {
		return nil, errors.New("mail: ResetTTL must be at least one second")
	}
	pages, err := parsePages(cfg)
	if err != nil {
		return nil, err
	}
	product := cfg.ProductName
	if product == "" || hasControl(product) || !utf8.ValidString(product) {
		return nil, errors.New("mail: ProductName must be one line of text")
	}
	letters, err := newComposer(product, pages, cfg.ResetTTL, cfg.Templates)
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

// register adds the workers of the outbox, and the look-up of accounts, which each replica does for the requests that
// it has received.
func (d *delivery) register(queue *jobs.Queue) error {
	return errors.Join(
		jobs.AddWorker(queue, &linkWorker{d: d}),
		jobs.AddWorker(queue, &letterWorker{d: d}),
		jobs.AddWorker(queue, &noticeWorker{d: d}),
		jobs.AddWorker(queue, &farewellWorker{d: d}),
		jobs.AddWorker(queue, &requestWorker{d: d}),
		jobs.AddWorker(queue, &changedWorker{d: d}),
		queue.AddTask(func(ctx context.Context) { d.lookUp(ctx, queue) }),
	)
}

func isAddress(email string) bool {
	return email != "" && len(email) <= maxAddress && utf8.ValidString(email) && !hasControl(email)
}

// Notifier queues notices. An [Outbox] is one.
type Notifier interface {
	// Notify queues a mail to the owner of an account, about something that has just happened to it. The job is part of
	// tx, as the change itself should be, so it is never queued without the change. traceID is for the log and may be
	// empty. If [Accounts] does not admit the notice, because the account had such notices lately, Notify queues
	// nothing and returns no error.
	Notify(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID, traceID string) error
}

// Notify implements [Notifier]. If tx is nil, it inserts the job at once.
func (o *Outbox) Notify(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID, traceID string) error {
	if !notice.known() {
		return fmt.Errorf("mail: unknown notice %q", string(notice))
	}
	if tx == nil {
		return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error { return o.Notify(ctx, tx, notice, userID, traceID) })
	}
	if !notice.isAlwaysSent() {
		admitted, err := o.accounts.AdmitNotice(ctx, tx, notice, userID)
		if err != nil {
			return fmt.Errorf("mail: count notice: %w", err)
		}
		if !admitted {
			return nil
		}
	}
	return o.queueNotice(ctx, tx, noticeArgs{Notice: notice, UserID: userID, HappenedAt: o.now().UTC(), TraceID: cleanTraceID(traceID)})
}

// queueNotice queues a job of the queue for notices.
func (o *Outbox) queueNotice(ctx context.Context, tx pgx.Tx, args river.JobArgs) error {
	if err := o.jobs.Insert(ctx, tx, args, &river.InsertOpts{Queue: jobs.MailNotices, MaxAttempts: o.notice}); err != nil {
		return fmt.Errorf("mail: queue the notice: %w", err)
	}
	return nil
}

// cleanTraceID returns "" for ids that would damage the row: a caller has chosen the id, jsonb has no NUL, and the log
// does not need a long one.
func cleanTraceID(id string) string {
	if len(id) > maxTraceID || !utf8.ValidString(id) || hasControl(id) {
		return ""
	}
	return id
}

// Stats describes the outbox for metrics.
type Stats struct {
	// Pending is how many mails are neither sent nor given up.
	Pending int64
	// Failing is how many of those have failed at least once.
	Failing int64
	// GivenUp is how many mails were given up in the last 24 hours.
	GivenUp int64
	// Oldest is the age of the oldest pending mail, or 0 if there is none.
	Oldest time.Duration
}

// Stats counts with one statement. It reads the waiting requests, and with an index the rows that are pending or given
// up.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	const query = `
		SELECT asked.n + jobs.pending, jobs.failing, jobs.given_up,
		       coalesce(extract(epoch FROM now() - least(asked.oldest, jobs.oldest)), 0)::float8
		FROM (
			SELECT count(*) AS n, min(requested_at) AS oldest
			FROM (SELECT requested_at FROM reset_requests UNION ALL SELECT requested_at FROM mail_requests) AS waiting
		) AS asked, (
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
