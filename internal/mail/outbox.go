package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

const (
	// queueLinks carries reset links. queueNotices keeps links, which anybody can ask many
	// of, from holding up warnings.
	queueLinks   = "mail_links"
	queueNotices = "mail_notices"
	// queueFormer is where former versions put both.
	queueFormer = "mail"
	// queueUpkeep keeps a long sweep from holding up mails.
	queueUpkeep = "upkeep"

	// workers is how many mails of a queue one replica sends at a time.
	workers = 4
	// fetchPause is how soon a queue of mails is asked again while there is more to do:
	// the default of 100 ms would bound it to 40 mails a second.
	fetchPause = 20 * time.Millisecond
	// jobTimeout ends an attempt, looking up and sending together.
	jobTimeout = time.Minute
	// rescueAfter is when another process retries an attempt whose process has died: twice as long as an
	// attempt can last.
	rescueAfter = 2 * jobTimeout
	// softStop is what mails on the way are given when the outbox stops.
	softStop = 10 * time.Second
	// answerTime is how long PostgreSQL may take to answer before an orderly stop: a thousand times as long
	// as it takes when idle.
	answerTime = 2 * time.Second
	// hardStop is what interrupted mails get when it is not.
	hardStop = time.Second

	// Jobs are deleted as soon as they are of no more use, because those of former versions hold addresses.
	// Sent ones are kept for an hour, which answers "did it go out?"; ones that were given up on are kept for
	// a day, which is one look at the dashboard. The log keeps the rest, with the trace id and without the
	// address.
	keepSent    = time.Hour
	keepGivenUp = 24 * time.Hour

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
	// Address returns the address of a user, ok false when the user is gone.
	Address(ctx context.Context, userID uuid.UUID) (to string, ok bool, err error)
	// AdmitNotice counts a notice that is about to be queued in tx, and reports whether the
	// user may get it. It is not asked about [PasswordChanged].
	AdmitNotice(ctx context.Context, tx pgx.Tx, notice Notice, userID uuid.UUID) (bool, error)
}

// Config configures [New].
type Config struct {
	// Pool is the database with the migrated schema ([Migrate]). Required. To listen
	// for new jobs the outbox keeps one connection that it has made the pool open
	// and give up: it comes on top of the pool's maximum (not with PollOnly). All
	// others are borrowed for single statements, never while a mail server is
	// talked to.
	Pool *pgxpool.Pool
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
	// Sweep deletes expired rows. It is called once an hour and soon after a
	// start, by one replica at a time, with 10 minutes to finish. Nil means none.
	Sweep func(ctx context.Context) error
	// PollOnly looks for jobs twice a second instead of listening: for a Pool
	// behind a pooler in transaction mode, where LISTEN does not work.
	PollOnly bool
	// Logger gets failures (warnings; errors when a mail is given up on), with job
	// id and trace id, without addresses. Nil means no log.
	Logger *slog.Logger
	// Now dates the mails. Nil means time.Now. Retries follow the machine's clock.
	Now func() time.Time

	// waits replaces defaultWaits in tests.
	waits []time.Duration
}

// Outbox inserts and works mail jobs. Any number of replicas may run one on the
// same database; inserting works without Start.
type Outbox struct {
	pool     *pgxpool.Pool
	client   *river.Client[pgx.Tx]
	accounts Accounts
	delivery *delivery
	now      func() time.Time

	notice int // attempts of a notice
	mute   *atomic.Bool

	looking     sync.WaitGroup
	stopLooking context.CancelFunc // nil before the start
}

// New checks the settings and builds the outbox; it does not touch the database.
func New(cfg Config) (*Outbox, error) {
	if cfg.Pool == nil || cfg.Accounts == nil || cfg.Sender == nil {
		return nil, errors.New("mail: Pool, Accounts and Sender are required")
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
	mute := &atomic.Bool{}
	client, err := newClient(cfg, d, logger, mute)
	if err != nil {
		return nil, fmt.Errorf("mail: outbox: %w", err)
	}
	return &Outbox{
		pool:     cfg.Pool,
		client:   client,
		accounts: cfg.Accounts,
		delivery: d,
		now:      now,
		notice:   len(d.waits) + 1 + noticeExtra,
		mute:     mute,
	}, nil
}

func newClient(cfg Config, d *delivery, logger *slog.Logger, mute *atomic.Bool) (*river.Client[pgx.Tx], error) {
	kinds := river.NewWorkers()
	if err := errors.Join(
		river.AddWorkerSafely(kinds, &linkWorker{d: d}),
		river.AddWorkerSafely(kinds, &noticeWorker{d: d}),
		river.AddWorkerSafely(kinds, &requestWorker{d: d}),
		river.AddWorkerSafely(kinds, &changedWorker{d: d}),
		// Registered without a Sweep as well: another replica, still running with
		// one, may have inserted its job.
		river.AddWorkerSafely(kinds, &sweepWorker{sweep: cfg.Sweep, logger: logger}),
	); err != nil {
		return nil, err
	}
	settings := &river.Config{
		Logger:  slog.New(&quietHandler{next: logger.Handler(), mute: mute}),
		Workers: kinds,
		Queues: map[string]river.QueueConfig{
			queueLinks:   {MaxWorkers: workers, FetchCooldown: fetchPause},
			queueNotices: {MaxWorkers: workers, FetchCooldown: fetchPause},
			queueFormer:  {MaxWorkers: workers, FetchCooldown: fetchPause},
			// Nobody waits for a sweep: ask rarely.
			queueUpkeep: {MaxWorkers: 1, FetchPollInterval: 30 * time.Second},
		},
		PollOnly:                    cfg.PollOnly,
		FetchPollInterval:           time.Second,
		JobTimeout:                  jobTimeout,
		RescueStuckJobsAfter:        rescueAfter,
		SoftStopTimeout:             softStop,
		CompletedJobRetentionPeriod: keepSent,
		CancelledJobRetentionPeriod: keepGivenUp,
		DiscardedJobRetentionPeriod: keepGivenUp,
	}
	if cfg.PollOnly {
		settings.FetchPollInterval = 500 * time.Millisecond
	}
	if cfg.Sweep != nil {
		settings.PeriodicJobs = []*river.PeriodicJob{river.NewPeriodicJob(
			river.PeriodicInterval(time.Hour),
			func() (river.JobArgs, *river.InsertOpts) { return sweepArgs{}, nil },
			&river.PeriodicJobOpts{ID: "sweep", RunOnStart: true},
		)}
	}
	return river.NewClient(riverpgxv5.New(cfg.Pool), settings)
}

// Start begins to work jobs and returns. The end of ctx does not stop the outbox,
// Stop does.
func (o *Outbox) Start(ctx context.Context) error {
	if err := o.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("mail: start outbox: %w", err)
	}
	looking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o.stopLooking = cancel
	o.looking.Go(func() { o.delivery.lookUp(looking, o.client) })
	return nil
}

// Stop takes no new jobs and waits for mails on the way, at most 10 s or until
// ctx ends. What is interrupted goes back into the table without having used up
// an attempt.
//
// Without PostgreSQL there is nothing to write to: Stop interrupts mails on the
// way and returns an error within 3 s. What the job queue still tries then, it
// tries silently.
func (o *Outbox) Stop(ctx context.Context) error {
	if o.stopLooking != nil {
		o.stopLooking() // a batch that is interrupted stays as it was
		o.looking.Wait()
	}
	if err := o.ping(ctx); err != nil {
		o.mute.Store(true) // three errors about a leadership that ends by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStop)
		defer cancel()
		_ = o.client.StopAndCancel(ctx)
		return fmt.Errorf("mail: stop outbox: PostgreSQL does not answer: %w", err)
	}
	if o.client.Stop(ctx) == nil {
		return nil
	}
	// Long enough to write the interrupted jobs back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := o.client.StopAndCancel(ctx); err != nil {
		return fmt.Errorf("mail: stop outbox: %w", err)
	}
	return nil
}

// ping asks PostgreSQL even if ctx has ended: a stop in a hurry is still an orderly one.
func (o *Outbox) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	return o.pool.Ping(ctx)
}

func isAddress(email string) bool {
	return email != "" && len(email) <= maxAddress && utf8.ValidString(email) && !hasControl(email)
}

// Notify queues a mail that tells a user what has just happened to the account. The job is part of tx, as the
// change itself should be, and is lost with it; with a nil tx it is inserted at once. traceID is for the log
// and may be empty. A notice that [Accounts] does not admit is left out without an error.
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
	_, err := o.client.InsertTx(ctx, tx, args, &river.InsertOpts{Queue: queueNotices, MaxAttempts: o.notice})
	if err != nil {
		return fmt.Errorf("mail: insert job: %w", err)
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
	err := o.pool.QueryRow(ctx, query, []string{queueLinks, queueNotices, queueFormer}).Scan(&s.Pending, &s.Failing, &s.GivenUp, &age)
	if err != nil {
		return Stats{}, fmt.Errorf("mail: outbox statistics: %w", err)
	}
	s.Oldest = max(0, time.Duration(age*float64(time.Second)))
	return s, nil
}
