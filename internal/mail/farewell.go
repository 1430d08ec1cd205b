package mail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// NotifyDeletion queues the [DeletionRequested] notice, which says until when the account can be kept.
func (o *Outbox) NotifyDeletion(ctx context.Context, tx pgx.Tx, userID uuid.UUID, deleteTime time.Time, traceID string) error {
	return o.queueNotice(ctx, tx, noticeArgs{
		Notice: DeletionRequested, UserID: userID, HappenedAt: o.now().UTC(), TraceID: cleanTraceID(traceID), Until: deleteTime.UTC(),
	})
}

// Farewell queues the [AccountDeleted] notice to the address of an account that tx deletes. The address is in a row of
// its own until the mail was sent: jobs have ids only, and stay for a while when they are done.
func (o *Outbox) Farewell(ctx context.Context, tx pgx.Tx, email, traceID string) error {
	return o.queueFarewell(ctx, tx, AccountDeleted, email, traceID)
}

// queueFarewell queues a notice to an address that no account has any more.
func (o *Outbox) queueFarewell(ctx context.Context, tx pgx.Tx, notice Notice, email, traceID string) error {
	args := farewellArgs{ID: uuid.New(), Notice: notice, HappenedAt: o.now().UTC(), TraceID: cleanTraceID(traceID)}
	if err := db.New().QueueFarewell(ctx, tx, db.QueueFarewellParams{ID: args.ID, Address: email, MadeAt: args.HappenedAt}); err != nil {
		return fmt.Errorf("mail: keep the address of the last mail: %w", err)
	}
	return o.queueNotice(ctx, tx, args)
}

type farewellArgs struct {
	ID uuid.UUID `json:"farewell_id"`
	// Notice is what happened.
	Notice     Notice    `json:"notice"`
	HappenedAt time.Time `json:"happened_at"`
	TraceID    string    `json:"trace_id,omitempty"`
}

// Kind names the job in the table.
func (farewellArgs) Kind() string { return "farewell" }

type farewellWorker struct {
	river.WorkerDefaults[farewellArgs]
	d *delivery
}

// NextRetry returns the time after the next wait: first the configured waits, then an hour each.
func (w *farewellWorker) NextRetry(job *river.Job[farewellArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work sends the mail, and deletes the address. If the row is gone, the mail was sent before or is too old.
func (w *farewellWorker) Work(ctx context.Context, job *river.Job[farewellArgs]) error {
	d, args := w.d, job.Args
	return d.attempt(ctx, job.JobRow, args.TraceID, func() error {
		to, err := db.New().FindFarewell(ctx, d.pool, args.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return d.lookupFailed(ctx, job.JobRow, args.TraceID, err)
		}
		m, known, err := d.letters.notice(noticeArgs{Notice: args.Notice, HappenedAt: args.HappenedAt}, to, d.now())
		if err != nil {
			return err
		}
		if !known {
			return strange(job.CreatedAt)
		}
		if err := d.send(ctx, m); err != nil {
			return err
		}
		// Not cancelled with the job: an address that stays would be mailed to again.
		if err := db.New().DeleteFarewell(context.WithoutCancel(ctx), d.pool, args.ID); err != nil {
			d.logger.WarnContext(ctx, "mail: the address of a last mail stays until it is swept", "job_id", job.ID, "err", err)
		}
		return nil
	})
}
