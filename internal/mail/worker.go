package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// defaultWaits returns the waits between the attempts at a reset mail. There is one attempt more than there are waits.
// They add up to 30 minutes, after which nobody waits for the mail any more. The first are short, because somebody
// looks at an empty inbox. The later ones are long enough for a greylisting server or a restart. A notice is a warning,
// so it is tried for another day (noticeExtra), once an hour.
func defaultWaits() []time.Duration {
	return []time.Duration{
		time.Second,
		5 * time.Second,
		25 * time.Second,
		2 * time.Minute,
		5 * time.Minute,
		10 * time.Minute,
		12*time.Minute + 29*time.Second,
	}
}

// These errors are stored with a job if the reason must not be stored. The log has the reason if it holds no secret.
var (
	errStrange = errors.New("mail: a notice of a kind that this version does not know")
	errLookup  = errors.New("mail: looking up the account failed")
	errPanic   = errors.New("mail: panic while sending")
)

// delivery has the data that the workers share.
type delivery struct {
	pool     *pgxpool.Pool
	accounts Accounts
	sender   Sender
	letters  *composer
	logger   *slog.Logger
	now      func() time.Time
	waits    []time.Duration
	// look wakes the goroutine that looks accounts up.
	look chan struct{}
}

// nextRetry returns when a job that has just failed is tried again.
func (d *delivery) nextRetry(attempt int) time.Time {
	wait := noticeWait
	if attempt <= len(d.waits) {
		wait = d.waits[max(attempt, 1)-1]
	}
	return time.Now().Add(wait) //nolint:forbidigo // the queue compares with the machine's clock, whatever Config.Now says
}

// attempt runs one attempt and turns its error into one that may be stored.
func (d *delivery) attempt(ctx context.Context, job *rivertype.JobRow, traceID string, work func() error) (err error) {
	log := d.logger.With("job_id", job.ID, "kind", job.Kind, "attempt", job.Attempt, "trace_id", traceID)
	defer func() {
		if p := recover(); p != nil {
			// The value of the panic may be the mail. The stack has no contents.
			log.ErrorContext(ctx, "mail: panic", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errPanic
		}
		err = d.report(ctx, log, job, err)
	}()
	return work()
}

// report logs a failure and decides whether it is final.
func (d *delivery) report(ctx context.Context, log *slog.Logger, job *rivertype.JobRow, err error) error {
	var (
		snooze *rivertype.JobSnoozeError
		failed *SendError
	)
	switch {
	case err == nil || errors.As(err, &snooze):
		return err
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		// The process stops: the queue takes the job back when it sees the cancellation.
		log.InfoContext(ctx, "mail: interrupted, will be sent after the next start")
		return err
	case errors.As(err, &failed) && failed.Permanent:
		log.ErrorContext(ctx, "mail: given up, the server refuses it for good", "err", err)
		return river.JobCancel(err)
	case job.Attempt >= job.MaxAttempts:
		log.ErrorContext(ctx, "mail: given up after the last attempt", "err", err)
	default:
		log.WarnContext(ctx, "mail: attempt failed, will be tried again", "err", err)
	}
	return err
}

// lookupFailed keeps the error text of the account store out of the stored job.
func (d *delivery) lookupFailed(ctx context.Context, job *rivertype.JobRow, traceID string, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%w: %w", errLookup, ctxErr)
	}
	d.logger.WarnContext(ctx, "mail: account store", "job_id", job.ID, "kind", job.Kind, "trace_id", traceID, "err", err)
	return errLookup
}

// send sends m. Only a SendError is known to have nothing of the mail in it.
func (d *delivery) send(ctx context.Context, m Message) error {
	err := d.sender.Send(ctx, m)
	var failed *SendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed):
		return failed
	case ctx.Err() != nil:
		return &SendError{Op: "message", Reason: "interrupted", cause: ctx.Err()}
	}
	return &SendError{Op: "message", Reason: fmt.Sprintf("the sender returned %T", err)}
}
