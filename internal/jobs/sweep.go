package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
)

// sweepEvery is how often one replica deletes rows that nothing needs any more.
const sweepEvery = time.Hour

// The kind and the JSON names below are in rows that are older than this version: add names, but never change one.

type sweepArgs struct{}

// Kind names the job in the table.
func (sweepArgs) Kind() string { return "sweep" }

// InsertOpts allows one attempt: there is another sweep in an hour.
func (sweepArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: UpkeepQueue, MaxAttempts: 1}
}

func sweepHourly() *river.PeriodicJob {
	return river.NewPeriodicJob(
		river.PeriodicInterval(sweepEvery),
		func() (river.JobArgs, *river.InsertOpts) { return sweepArgs{}, nil },
		&river.PeriodicJobOpts{ID: "sweep", RunOnStart: true},
	)
}

type sweepWorker struct {
	river.WorkerDefaults[sweepArgs]
	sweep  func(ctx context.Context) error
	logger *slog.Logger
}

// Timeout is long enough for the first sweep of a database that was never swept.
func (*sweepWorker) Timeout(*river.Job[sweepArgs]) time.Duration { return 10 * time.Minute }

// Work calls the configured sweep.
func (w *sweepWorker) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	if w.sweep == nil {
		return nil
	}
	if err := w.sweep(ctx); err != nil {
		w.logger.ErrorContext(ctx, "jobs: sweeping expired rows failed, will be tried in an hour", "err", err)
		return errors.New("jobs: sweep failed")
	}
	return nil
}
