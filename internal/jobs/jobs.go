// Package jobs runs work in the background: a table of jobs in PostgreSQL ([River]), their queues, and the hourly
// sweep. No other package knows River's client.
//
// A package that has jobs gives its workers to a [Queue] with [AddWorker] when it is built, names one of the queues of
// this package, and inserts with [Queue.Insert] in the transaction that decided on the job: the job runs exactly when
// that transaction commits, and survives a crash of the process. It runs at least once: a process that dies between the
// work and the note of it leaves the job to another one.
//
// [River]: https://riverqueue.com
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

const (
	// Timeout ends an attempt at a job whose worker names no other.
	Timeout = time.Minute
	// RescueAfter is when another process retries an attempt whose process has died: twice as long as an attempt can
	// last.
	RescueAfter = 2 * Timeout

	// softStop is what jobs under way are given when the queue stops.
	softStop = 10 * time.Second
	// answerTime is how long PostgreSQL may take to answer before an orderly stop: a thousand times as long as it
	// takes when idle.
	answerTime = 2 * time.Second
	// hardStop is what interrupted jobs get when it does not answer.
	hardStop = time.Second

	// Jobs are deleted as soon as they are of no more use, because those of former versions hold addresses. Done ones
	// are kept for an hour, which answers "did the mail go out?"; ones that were given up on are kept for a day, which
	// is one look at the dashboard. The log keeps the rest, with the trace id and without the address.
	keepDone    = time.Hour
	keepGivenUp = 24 * time.Hour
)

// ErrBuilt is returned when a worker or a background task is added after the first job was inserted or the queue was
// started: River would not know it.
var ErrBuilt = errors.New("jobs: added after the first use of the queue")

// Config configures [New].
type Config struct {
	// Pool is the database with the migrated schema ([Migrate]). Required. To listen for new jobs the queue keeps one
	// connection that it has made the pool open and give up: it comes on top of the pool's maximum (not with PollOnly).
	// All others are borrowed for single statements, never while a job works.
	Pool *pgxpool.Pool
	// PollOnly looks for jobs twice a second instead of listening: for a Pool behind a pooler in transaction mode,
	// where LISTEN does not work.
	PollOnly bool
	// Sweep deletes rows that are of no more use, see [Upkeep]. It is called once an hour and soon after a start, by
	// one replica at a time, with 10 minutes to finish. Nil means none.
	Sweep func(ctx context.Context) error
	// Logger gets failures of sweeps, and warnings and errors of River without what a job holds. Nil means no log.
	Logger *slog.Logger
}

// Queue inserts and works jobs. Any number of replicas may run one on the same database; inserting works without
// Start. Use New. Safe for concurrent use.
type Queue struct {
	cfg     Config
	workers *river.Workers
	mute    atomic.Bool

	mu     sync.Mutex
	tasks  []func(ctx context.Context)
	client *river.Client[pgx.Tx] // nil until the first use: a client takes no more workers

	running   sync.WaitGroup // the tasks
	stopTasks context.CancelFunc
}

// New returns a queue that knows the sweep only. It does not touch the database.
func New(cfg Config) (*Queue, error) {
	if cfg.Pool == nil {
		return nil, errors.New("jobs: Pool is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{cfg: cfg, workers: river.NewWorkers(), stopTasks: func() {}}
	// Registered without a Sweep as well: another replica, still running with one, may have inserted its job.
	return q, AddWorker(q, &sweepWorker{sweep: cfg.Sweep, logger: cfg.Logger})
}

// AddWorker adds the worker of one kind of job. It returns [ErrBuilt] after the first use of the queue, and an error
// when the kind has a worker already. Rows of a kind outlive a deployment: its name and the JSON names of its arguments
// are never changed.
func AddWorker[T river.JobArgs](q *Queue, worker river.Worker[T]) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.client != nil {
		return ErrBuilt
	}
	if err := river.AddWorkerSafely(q.workers, worker); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return nil
}

// AddTask adds work that each replica does for itself, beside the jobs, which one replica does for all. Start calls it
// in a goroutine of its own, Stop ends its context and waits for it. AddTask returns [ErrBuilt] after the first use.
func (q *Queue) AddTask(run func(ctx context.Context)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.client != nil {
		return ErrBuilt
	}
	q.tasks = append(q.tasks, run)
	return nil
}

// Insert queues a job as a part of tx: it is lost with it, and runs soon after its commit.
func (q *Queue) Insert(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) error {
	return q.InsertMany(ctx, tx, []river.InsertManyParams{{Args: args, InsertOpts: opts}})
}

// InsertMany is Insert for several jobs in one statement.
func (q *Queue) InsertMany(ctx context.Context, tx pgx.Tx, many []river.InsertManyParams) error {
	client, err := q.built()
	if err != nil || len(many) == 0 {
		return err
	}
	if _, err := client.InsertManyTx(ctx, tx, many); err != nil {
		return fmt.Errorf("jobs: insert: %w", err)
	}
	return nil
}

// built returns River's client, which the first call makes.
func (q *Queue) built() (*river.Client[pgx.Tx], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.client != nil {
		return q.client, nil
	}
	client, err := river.NewClient(riverpgxv5.New(q.cfg.Pool), q.settings())
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	q.client = client
	return client, nil
}

func (q *Queue) settings() *river.Config {
	settings := &river.Config{
		Logger:                      slog.New(&quietHandler{next: q.cfg.Logger.Handler(), mute: &q.mute}),
		Workers:                     q.workers,
		Queues:                      queues(),
		PollOnly:                    q.cfg.PollOnly,
		FetchPollInterval:           time.Second,
		JobTimeout:                  Timeout,
		RescueStuckJobsAfter:        RescueAfter,
		SoftStopTimeout:             softStop,
		CompletedJobRetentionPeriod: keepDone,
		CancelledJobRetentionPeriod: keepGivenUp,
		DiscardedJobRetentionPeriod: keepGivenUp,
	}
	if q.cfg.PollOnly {
		settings.FetchPollInterval = 500 * time.Millisecond
	}
	if q.cfg.Sweep != nil {
		settings.PeriodicJobs = []*river.PeriodicJob{sweepHourly()}
	}
	return settings
}

// Start begins to work jobs and to run tasks, and returns. The end of ctx does not stop the queue, Stop does.
func (q *Queue) Start(ctx context.Context) error {
	client, err := q.built()
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := client.Start(ctx); err != nil {
		return fmt.Errorf("jobs: start: %w", err)
	}
	ctx, q.stopTasks = context.WithCancel(ctx)
	for _, run := range q.tasks {
		q.running.Go(func() { run(ctx) })
	}
	return nil
}

// Stop ends the tasks, takes no new jobs and waits for jobs under way, at most 10 s or until ctx ends. An interrupted
// job goes back into the table without having used up an attempt.
//
// Without PostgreSQL there is nothing to write to: Stop interrupts jobs under way and returns an error within 3 s. What
// River still tries then, it tries silently.
func (q *Queue) Stop(ctx context.Context) error {
	client, err := q.built()
	if err != nil {
		return err
	}
	q.stopTasks()
	q.running.Wait()
	if err := q.ping(ctx); err != nil {
		q.mute.Store(true) // three errors about a leadership that ends by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStop)
		defer cancel()
		_ = client.StopAndCancel(ctx)
		return fmt.Errorf("jobs: stop: PostgreSQL does not answer: %w", err)
	}
	if client.Stop(ctx) == nil {
		return nil
	}
	// Long enough to write the interrupted jobs back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := client.StopAndCancel(ctx); err != nil {
		return fmt.Errorf("jobs: stop: %w", err)
	}
	return nil
}

// ping asks PostgreSQL even if ctx has ended: a stop in a hurry is still an orderly one.
func (q *Queue) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	return q.cfg.Pool.Ping(ctx)
}
