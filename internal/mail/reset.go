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
	// lookPause is the pause after which the look-up takes requests that did not wake this process: those of a replica
	// that died, and those that a failed look-up returned.
	lookPause = 2 * time.Second
	// lookBatch is how many requests are looked up in one transaction.
	lookBatch = 500
	// lookTimeout limits the look-up of one batch.
	lookTimeout = 30 * time.Second

	// outputSent marks jobs that sent a mail. Other jobs had nothing to send.
	outputSent = "sent"

	// The order in which requests and links are handled.
	priorityFirst = 1
	priorityLater = 2
)

// Request asks for a mail with a secret.
type Request struct {
	// Email is the address as typed, see [ErrAddress].
	Email string
	// Later means that the request is handled after all others that wait, because its network asked lately.
	Later bool
	// TraceID is for the log, CallID for the audit trail, see [Link]. Both may be empty.
	TraceID, CallID string
	// Asker is a hash of the client that asks and alone may use the secret. Nil: everybody who has the mail may.
	Asker []byte
}

// Link is a secret that somebody asked for and that is about to be made and mailed.
type Link struct {
	// UserID is the account of the secret.
	UserID uuid.UUID
	// Position is the ledger's position when somebody asked for it.
	Position int64
	// TraceID, CallID and Asker are those of the request.
	TraceID, CallID string
	Asker           []byte
	// Address stands for the address that the mail goes to, if the account does not have it.
	Address uuid.UUID
}

// RequestReset asks for a password reset mail to the typed address. It does the same one insert whether or not an
// account has the address. A look-up finds the account later, and does not wait for mail servers. It returns
// [ErrAddress] or a database error.
//
// Requests that wait at the same time get one mail. If the account's sessions are ended before the link is used, the
// request ends too.
func (o *Outbox) RequestReset(ctx context.Context, r Request) error {
	if !isAddress(r.Email) {
		return ErrAddress
	}
	err := db.New().QueueResetRequest(ctx, o.pool, db.QueueResetRequestParams{
		Email: r.Email, Priority: r.priority(), TraceID: cleanTraceID(r.TraceID), CallID: r.CallID,
	})
	if err != nil {
		return fmt.Errorf("mail: queue reset request: %w", err)
	}
	o.delivery.wake()
	return nil
}

func (r Request) priority() int16 {
	if r.Later {
		return priorityLater
	}
	return priorityFirst
}

// Wake starts the look-up of requests whose transaction has committed.
func (o *Outbox) Wake() { o.delivery.wake() }

// wake never waits: one signal that was not received yet is enough.
func (d *delivery) wake() {
	select {
	case d.look <- struct{}{}:
	default:
	}
}

// lookUp turns requests into links to be sent, one batch in a transaction, until ctx ends. Each replica runs it once,
// so that a flood uses one connection.
func (d *delivery) lookUp(ctx context.Context, queue *jobs.Queue) {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		more, err := d.lookUpBatch(ctx, queue)
		if err == nil {
			var others bool
			others, err = d.lookUpLetters(ctx, queue)
			more = more || others
		}
		if err != nil && ctx.Err() == nil {
			d.logger.WarnContext(ctx, "mail: looking up requests failed, will be tried again", "err", err)
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

// woken returns nil after a failure, so that requests do not wake the look-up. In a flood it would otherwise ask a
// database in trouble without a pause.
func (d *delivery) woken(failure error) <-chan struct{} {
	if failure != nil {
		return nil
	}
	return d.look
}

// lookUpBatch returns whether the batch was full: then there may be more.
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

// linkArgs hold the ledger's position when somebody asked for the link.
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

// NextRetry returns the time after the next of the configured waits.
func (w *linkWorker) NextRetry(job *river.Job[linkArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work makes a token and sends it in one step: the token exists only in this call.
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
		to, token, ok, err := d.accounts.IssueReset(ctx, Link{
			UserID: job.Args.UserID, Position: job.Args.Position, TraceID: job.Args.TraceID, CallID: job.Args.CallID,
		})
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

// others looks for other attempts for the same account, on any replica.
//
// isAnswered: another attempt started after this request was made and has sent its mail, so its link is at least as new
// as this request. Of many requests at the same time, only few get a mail of their own.
//
// isBusy: another attempt that started earlier is still running. Without waiting for it, two requests could make their
// tokens in one order and send them in the other. If the second token replaced the first, the mail that arrives last
// would hold a dead link. An attempt that started more than jobs.Timeout before this one has ended or its process has
// died.
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

// requestArgs are the arguments that earlier versions insert for a request.
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

// NextRetry returns the time after the next of the configured waits.
func (w *requestWorker) NextRetry(job *river.Job[requestArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work turns the job into a request of this version.
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
