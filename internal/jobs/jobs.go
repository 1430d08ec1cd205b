// Package jobs runs work in the background. It has a table of jobs in PostgreSQL ([River]), their queues, and the
// hourly sweep. No other package knows River's client.
//
// A package that has jobs gives its workers to a [Queue] with [AddWorker] when it is built, names one of the queues of
// this package, and inserts with [Queue.Insert] in the transaction that decided on the job. The job runs only if that
// transaction commits, and then even if the process crashes. It runs at least once: if a process dies after the work
// and before it has recorded that, another process repeats the job.
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
	// Timeout ends an attempt at a job, if its worker names no other time.
	Timeout = time.Minute
	// RescueAfter is when another process retries an attempt whose process has died. It is twice as long as an attempt
	// can take.
	RescueAfter = 2 * Timeout

	// softStop is how long running jobs may continue when the queue stops.
	softStop = 10 * time.Second
	// answerTime is how long PostgreSQL may take to answer before an orderly stop. It is a thousand times as long as an
	// idle PostgreSQL takes.
	answerTime = 2 * time.Second
	// hardStop is how long interrupted jobs may continue if PostgreSQL does not answer.
	hardStop = time.Second

	// Jobs are deleted as soon as nothing needs them, because those of earlier versions hold addresses. Done jobs are
	// kept for an hour, to answer "was the mail sent?". Jobs that failed for good are kept for a day, so that somebody
	// can look at them once. The log keeps the rest, with the trace id and without the address.
	keepDone    = time.Hour
	keepGivenUp = 24 * time.Hour
)

// ErrBuilt is returned if a worker or a task is added after the first job was inserted or the queue was started: River
// would not know it.
var ErrBuilt = errors.New("jobs: added after the first use of the queue")

// Config configures [New].
type Config struct {
	// Pool is the database with the migrated schema ([Migrate]). Required. To listen for new jobs, the queue takes one
	// connection out of the pool, in addition to the pool's maximum (not with PollOnly). It borrows all others for
	// single statements, and has none while a job works.
	Pool *pgxpool.Pool
	// PollOnly looks for jobs twice a second instead of listening. It is for a Pool behind a pooler in transaction
	// mode, where LISTEN does not work.
	PollOnly bool
	// Sweep deletes rows that nothing needs any more: see [Upkeep]. One replica at a time calls it, once an hour and
	// soon after a start. It may take 10 minutes. Nil: no sweep.
	Sweep func(ctx context.Context) error
	// Logger logs failures of sweeps, and warnings and errors of River without the contents of jobs. Nil: no log.
	Logger *slog.Logger
}

// Queue inserts jobs and works them. Any number of replicas may use one database. Inserting works without Start. Use
// New. Safe for concurrent use.
type Queue struct {
	cfg     Config
	workers *river.Workers
	mute    atomic.Bool

	mu     sync.Mutex
	tasks  []func(ctx context.Context)
	client *river.Client[pgx.Tx] // nil until the first use, because a client accepts no more workers

	running   sync.WaitGroup // the tasks
	stopTasks context.CancelFunc
}

// New returns a queue that knows only the sweep. It does not use the database.
func New(cfg Config) (*Queue, error) {
	if cfg.Pool == nil {
		return nil, errors.New("jobs: Pool is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{cfg: cfg, workers: river.NewWorkers(), stopTasks: func() {}}
	// The worker is added without a Sweep too: another replica that has a Sweep may have inserted its job.
	return q, AddWorker(q, &sweepWorker{sweep: cfg.Sweep, logger: cfg.Logger})
}

// AddWorker adds the worker of one kind of job. It returns [ErrBuilt] after the first use of the queue, and an error if
// the kind already has a worker. Rows are older than this version: never change the name of a kind, or the JSON names
// of its arguments.
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

// AddTask adds work that each replica does for itself. (One replica does a job for all.) Start calls it in a goroutine
// of its own. Stop ends its context and waits for it. AddTask returns [ErrBuilt] after the first use of the queue.
func (q *Queue) AddTask(run func(ctx context.Context)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.client != nil {
		return ErrBuilt
	}
	q.tasks = append(q.tasks, run)
	return nil
}

// Insert queues a job as part of tx. The job runs soon after the commit, and never without it.
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

// built returns River's client. The first call makes it.
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

// Start starts to work jobs and to run tasks, and returns. The end of ctx does not stop the queue: call Stop.
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

// Stop ends the tasks, takes no new jobs and waits for running jobs, at most 10 s or until ctx ends. An interrupted job
// returns to the table, and the attempt is not counted.
//
// If PostgreSQL does not answer, Stop interrupts running jobs and returns an error within 3 s. River may then try more,
// but nothing of that is logged.
func (q *Queue) Stop(ctx context.Context) error {
	client, err := q.built()
	if err != nil {
		return err
	}
	q.stopTasks()
	q.running.Wait()
	if err := q.ping(ctx); err != nil {
		q.mute.Store(true) // River would log three errors about its leadership, which ends by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStop)
		defer cancel()
		_ = client.StopAndCancel(ctx)
		return fmt.Errorf("jobs: stop: PostgreSQL does not answer: %w", err)
	}
	if client.Stop(ctx) == nil {
		return nil
	}
	// This is long enough to write the interrupted jobs back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := client.StopAndCancel(ctx); err != nil {
		return fmt.Errorf("jobs: stop: %w", err)
	}
	return nil
}

// ping asks PostgreSQL, even if ctx has ended: a stop in a hurry should still be orderly.
func (q *Queue) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	return q.cfg.Pool.Ping(ctx)
}
