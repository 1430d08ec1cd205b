package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
)

// sweepEvery is how often rows that are of no more use are deleted, by one replica.
const sweepEvery = time.Hour

// The kind and JSON names below are in rows that outlive a deployment: add, never change.

type sweepArgs struct{}

// Kind names the job in the table.
func (sweepArgs) Kind() string { return "sweep" }

// InsertOpts asks for one attempt: the next hour brings the next one.
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

// Timeout leaves time for the backlog of a database that was never swept.
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
