package mail

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/jobs"
)

const (
	// lookPause is how soon requests are taken that nobody in this process was woken for:
	// those of a replica that died, and those that a failed look-up put back.
	lookPause = 2 * time.Second
	// lookBatch is how many requests are looked up in one transaction.
	lookBatch = 500
	// lookTimeout ends one look-up of a batch.
	lookTimeout = 30 * time.Second

	// outputSent tells jobs that sent a mail from those that had nothing to send.
	outputSent = "sent"

	// The order in which requests and links are served.
	priorityFirst = 1
	priorityLater = 2
)

// ResetRequest asks for a reset link.
type ResetRequest struct {
	// Email is the address as typed, see [ErrAddress].
	Email string
	// Later has the request served after all others that wait: its network asked lately.
	Later bool
	// TraceID is for the log, CallID for the audit trail, see [ResetLink]. Both may be
	// empty.
	TraceID, CallID string
}

// ResetLink is a link that was asked for and is about to be made.
type ResetLink struct {
	// UserID is whose it is.
	UserID uuid.UUID
	// Ledger is the position of the ledger when it was asked for.
	Position int64
	// TraceID and CallID are those of the request.
	TraceID, CallID string
}

// RequestReset asks for a password reset mail to whatever address was typed. It does the
// same work whether or not an account has it, one insert: who has the address is found out
// later, by a look-up that does not wait for mail servers. Returns [ErrAddress] or a
// database error.
//
// A newer link replaces an older one; requests that wait at the same time get one mail. What ends the
// account's sessions before the link is used ends the request as well.
func (o *Outbox) RequestReset(ctx context.Context, r ResetRequest) error {
	if !isAddress(r.Email) {
		return ErrAddress
	}
	priority := int16(priorityFirst)
	if r.Later {
		priority = priorityLater
	}
	err := db.New().QueueResetRequest(ctx, o.pool, db.QueueResetRequestParams{
		Email: r.Email, Priority: priority, TraceID: cleanTraceID(r.TraceID), CallID: r.CallID,
	})
	if err != nil {
		return fmt.Errorf("mail: queue reset request: %w", err)
	}
	o.delivery.wake()
	return nil
}

// wake never waits: one that is not taken yet is enough.
func (d *delivery) wake() {
	select {
	case d.look <- struct{}{}:
	default:
	}
}

// lookUp turns requests into links to be sent, a batch in a transaction, until ctx ends. It
// is one at a time in each replica, so that a flood takes one connection.
func (d *delivery) lookUp(ctx context.Context, queue *jobs.Queue) {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		more, err := d.lookUpBatch(ctx, queue)
		if err != nil && ctx.Err() == nil {
			d.logger.WarnContext(ctx, "mail: looking up reset requests failed, will be tried again", "err", err)
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.woken(err):
		}
	}
}

// woken returns nil after a failure, so that requests do not wake the lookup: under a flood it would ask a
// database in trouble without a pause.
func (d *delivery) woken(failure error) <-chan struct{} {
	if failure != nil {
		return nil
	}
	return d.look
}

// lookUpBatch reports whether the batch was full: there may be more then.
func (d *delivery) lookUpBatch(ctx context.Context, queue *jobs.Queue) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		taken, err := db.New().TakeResetRequests(ctx, tx, lookBatch)
		if err != nil || len(taken) == 0 {
			return err
		}
		more = len(taken) == lookBatch
		slices.SortFunc(taken, func(a, b db.ResetRequest) int { return int(a.ID - b.ID) })
		emails := make([]string, len(taken))
		for i, request := range taken {
			emails[i] = request.Email
		}
		owners, err := d.accounts.FindResetAccounts(ctx, tx, emails)
		if err != nil {
			return err
		}
		var links []river.InsertManyParams
		for i, request := range taken {
			if owner, ok := owners[i]; ok {
				links = append(links, d.link(owner, request))
			}
		}
		return queue.InsertMany(ctx, tx, links)
	})
	return more && err == nil, err
}

func (d *delivery) link(owner uuid.UUID, request db.ResetRequest) river.InsertManyParams {
	return river.InsertManyParams{
		Args:       linkArgs{UserID: owner, Position: request.Ledger, TraceID: request.TraceID, CallID: request.CallID},
		InsertOpts: &river.InsertOpts{Queue: jobs.MailLinks, Priority: int(request.Priority), MaxAttempts: len(d.waits) + 1},
	}
}

// linkArgs hold the position of the ledger when the link was asked for.
type linkArgs struct {
	UserID   uuid.UUID `json:"user_id"`
	Position int64     `json:"ledger"`
	TraceID  string    `json:"trace_id,omitempty"`
	CallID   string    `json:"call_id,omitempty"`
}

// Kind names the job in the table.
func (linkArgs) Kind() string { return "reset_link" }

type linkWorker struct {
	river.WorkerDefaults[linkArgs]
	d *delivery
}

// NextRetry follows the configured waits.
func (w *linkWorker) NextRetry(job *river.Job[linkArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work makes a token and sends it in one step: the token is nowhere but in this call.
func (w *linkWorker) Work(ctx context.Context, job *river.Job[linkArgs]) error {
	d := w.d
	return d.attempt(ctx, job.JobRow, job.Args.TraceID, func() error {
		isAnswered, isBusy, err := d.others(ctx, job)
		switch {
		case err != nil:
			return d.lookupFailed(ctx, job.JobRow, job.Args.TraceID, err)
		case isAnswered:
			return nil
		case isBusy:
			return river.JobSnooze(time.Second)
		}
		to, token, ok, err := d.accounts.IssueReset(ctx, ResetLink(job.Args))
		if err != nil {
			return d.lookupFailed(ctx, job.JobRow, job.Args.TraceID, err)
		}
		if !ok {
			return nil
		}
		m, err := d.letters.reset(to, token, d.now())
		if err != nil {
			return err
		}
		if err := d.send(ctx, m); err != nil {
			return err
		}
		return river.RecordOutput(ctx, outputSent)
	})
}

// others looks at the other attempts for the same account, in any replica.
//
// isAnswered: one began after this request was made and has sent its mail, which holds a
// newer link than was asked for. Of many requests at once few are answered by a mail of
// their own.
//
// isBusy: one that began before is still on its way. Without waiting for it, two requests in
// a row could make their tokens in one order and send them in the other, and the mail that
// arrives last would hold the dead link. An attempt that began more than jobs.Timeout before
// this one has ended or died with its process.
func (d *delivery) others(ctx context.Context, job *river.Job[linkArgs]) (isAnswered, isBusy bool, err error) {
	const query = `
		SELECT coalesce(bool_or(state = 'completed' AND metadata @> '{"output": "sent"}'
		                        AND attempted_at > $4 AND (args->>'ledger')::bigint >= $5), false),
		       coalesce(bool_or(state = 'running' AND attempted_at > $6), false)
		FROM river_job
		WHERE args @> jsonb_build_object('user_id', $1::text) AND kind = $2 AND id <> $3 AND (attempted_at, id) < ($7, $3)`
	began := *job.AttemptedAt
	err = d.pool.QueryRow(ctx, query, job.Args.UserID.String(), job.Kind, job.ID,
		job.CreatedAt, job.Args.Position, began.Add(-jobs.Timeout), began).Scan(&isAnswered, &isBusy)
	return isAnswered, isBusy, err
}

// requestArgs are what former versions insert for a request.
type requestArgs struct {
	Email   string `json:"email"`
	TraceID string `json:"trace_id,omitempty"`
}

// Kind names the job in the table.
func (requestArgs) Kind() string { return "password_reset" }

type requestWorker struct {
	river.WorkerDefaults[requestArgs]
	d *delivery
}

// NextRetry follows the configured waits.
func (w *requestWorker) NextRetry(job *river.Job[requestArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work makes a request of this version of it.
func (w *requestWorker) Work(ctx context.Context, job *river.Job[requestArgs]) error {
	d := w.d
	return d.attempt(ctx, job.JobRow, job.Args.TraceID, func() error {
		err := db.New().RequeueResetRequest(ctx, d.pool, db.RequeueResetRequestParams{
			Email: job.Args.Email, TraceID: job.Args.TraceID, RequestedAt: job.CreatedAt,
		})
		if err != nil {
			return d.lookupFailed(ctx, job.JobRow, job.Args.TraceID, err)
		}
		d.wake()
		return nil
	})
}
