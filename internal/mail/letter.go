package mail

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/jobs"
)

// LetterKind is the kind of a mail that holds a secret, other than a reset link. The values are in rows that are older
// than this version, and in the names of templates: add values, but never change one.
type LetterKind string

// The kinds.
const (
	// VerifyEmail is the mail with which the owner of an address proves it.
	VerifyEmail LetterKind = "verify_email"
	// LoginCode is the mail with a code that takes the place of a password.
	LoginCode LetterKind = "login_code"
)

// requested returns the kinds that somebody asks for by an address. Their accounts are looked up in this order on every
// replica, so that two that count mails do not deadlock.
func requested() []string { return []string{string(VerifyEmail), string(LoginCode)} }

// Letter is what a mail with a secret holds.
type Letter struct {
	// To is the address. "": nothing is sent.
	To string
	// Token is for the link, Code for people who type it. Either may be "".
	Token, Code string
	// Valid is how long both can be used.
	Valid time.Duration
	// Happened is when that happened which the mail is about. Zero: it is about nothing that has happened.
	Happened time.Time
}

// RequestVerification asks for a mail with which the owner of the typed address proves it. It does the same one insert
// whether or not an account has the address. If tx is nil, it inserts the request at once; else call Wake when tx has
// committed. It returns [ErrAddress] or a database error.
func (o *Outbox) RequestVerification(ctx context.Context, tx pgx.Tx, r Request) error {
	return o.requestLetter(ctx, tx, VerifyEmail, r)
}

// RequestLoginCode asks for a mail with a code that logs in the client of r.Asker. It is as RequestVerification.
func (o *Outbox) RequestLoginCode(ctx context.Context, r Request) error {
	return o.requestLetter(ctx, nil, LoginCode, r)
}

func (o *Outbox) requestLetter(ctx context.Context, tx pgx.Tx, kind LetterKind, r Request) error {
	if !isAddress(r.Email) {
		return ErrAddress
	}
	var on db.DBTX = o.pool
	if tx != nil {
		on = tx
	}
	err := db.New().QueueMailRequest(ctx, on, db.QueueMailRequestParams{
		Kind: string(kind), Email: r.Email, Priority: r.priority(), TraceID: cleanTraceID(r.TraceID), CallID: r.CallID, Asker: r.Asker,
	})
	if err != nil {
		return fmt.Errorf("mail: queue request: %w", err)
	}
	if tx == nil {
		o.delivery.wake()
	}
	return nil
}

// lookUpLetters is lookUpBatch for the requests of letters.
func (d *delivery) lookUpLetters(ctx context.Context, queue *jobs.Queue) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		taken, err := db.New().TakeMailRequests(ctx, tx, db.TakeMailRequestsParams{Kinds: requested(), BatchSize: lookBatch})
		if err != nil || len(taken) == 0 {
			return err
		}
		more = len(taken) == lookBatch
		slices.SortFunc(taken, func(a, b db.MailRequest) int { return int(a.ID - b.ID) })
		var letters []river.InsertManyParams
		for _, kind := range requested() {
			of, err := d.lettersOf(ctx, tx, LetterKind(kind), taken)
			if err != nil {
				return err
			}
			letters = append(letters, of...)
		}
		return queue.InsertMany(ctx, tx, letters)
	})
	return more && err == nil, err
}

// lettersOf returns the jobs for the requests of a kind whose accounts may get a mail.
func (d *delivery) lettersOf(ctx context.Context, tx pgx.Tx, kind LetterKind, taken []db.MailRequest) (letters []river.InsertManyParams, err error) {
	var asked []db.MailRequest
	var emails []string
	for _, request := range taken {
		if LetterKind(request.Kind) == kind {
			asked, emails = append(asked, request), append(emails, request.Email)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	owners, err := d.accounts.FindLetterAccounts(ctx, tx, kind, emails)
	if err != nil {
		return nil, err
	}
	for i, request := range asked {
		if owner, ok := owners[i]; ok {
			letters = append(letters, river.InsertManyParams{
				Args: letterArgs{
					Letter: kind, UserID: owner, Position: request.Ledger, TraceID: request.TraceID, CallID: request.CallID, Asker: request.Asker,
				},
				InsertOpts: d.letterOptions(int(request.Priority)),
			})
		}
	}
	return letters, nil
}

func (d *delivery) letterOptions(priority int) *river.InsertOpts {
	return &river.InsertOpts{Queue: jobs.MailLinks, Priority: priority, MaxAttempts: len(d.waits) + 1}
}

// letterArgs hold the ledger's position when somebody asked for the letter.
type letterArgs struct {
	Letter   LetterKind `json:"letter"`
	UserID   uuid.UUID  `json:"user_id"`
	Position int64      `json:"ledger"`
	TraceID  string     `json:"trace_id,omitempty"`
	CallID   string     `json:"call_id,omitempty"`
	Asker    []byte     `json:"asker,omitempty"`
	Address  uuid.UUID  `json:"address_id,omitzero"`
}

// Kind names the job in the table.
func (letterArgs) Kind() string { return "letter" }

type letterWorker struct {
	river.WorkerDefaults[letterArgs]
	d *delivery
}

// NextRetry returns the time after the next of the configured waits.
func (w *letterWorker) NextRetry(job *river.Job[letterArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work makes the secret and sends it in one step: the secret exists only in this call. A secret stays the same as long
// as it lives, so letters that are sent in another order than asked for are all good.
func (w *letterWorker) Work(ctx context.Context, job *river.Job[letterArgs]) error {
	d, args := w.d, job.Args
	return d.attempt(ctx, job.JobRow, args.TraceID, func() error {
		if args.Letter.subject("") == "" {
			return strange(job.CreatedAt)
		}
		letter, err := d.accounts.IssueLetter(ctx, args.Letter, Link{
			UserID: args.UserID, Position: args.Position, TraceID: args.TraceID, CallID: args.CallID, Asker: args.Asker, Address: args.Address,
		})
		if err != nil {
			return d.lookupFailed(ctx, job.JobRow, args.TraceID, err)
		}
		link := d.letters.link(args.Letter, letter)
		if letter.To == "" || link == "" && letter.Code == "" && letter.Happened.IsZero() {
			return nil
		}
		m, err := d.letters.letter(args.Letter, letter, link, d.now())
		if err != nil {
			return err
		}
		if err := d.send(ctx, m); err != nil {
			return err
		}
		return river.RecordOutput(ctx, outputSent)
	})
}

// strange returns what to do with a job of a kind that this version does not know: it belongs to a replica of a newer
// version.
func strange(made time.Time) error {
	if time.Since(made) > strangeAge {
		return river.JobCancel(errStrange)
	}
	return river.JobSnooze(strangeWait)
}

// subject returns "" for a kind that this version does not know.
func (k LetterKind) subject(product string) string {
	switch k {
	case VerifyEmail:
		return "Confirm your email address for " + product
	case LoginCode:
		return "Your code to log in to " + product
	case ChangeEmail:
		return "Confirm the new email address of your account at " + product
	case EmailChangedUndo:
		return EmailChanged.subject(product)
	}
	return ""
}

// link returns "" if there is no page for links of the kind, or no token.
func (c *composer) link(kind LetterKind, l Letter) string {
	var page *url.URL
	prefix := ""
	switch kind {
	case VerifyEmail:
		page = c.pages.verify
	case ChangeEmail:
		page = c.pages.change
	case EmailChangedUndo:
		page, prefix = c.pages.change, undoParameter+"&"
	case LoginCode: // a code alone: a link that logs in would do so for the person who asked
	}
	if page == nil || l.Token == "" {
		return ""
	}
	return withParameters(page, prefix+tokenParameter(l.Token))
}

func (c *composer) letter(kind LetterKind, l Letter, link string, now time.Time) (Message, error) {
	v := view{Subject: kind.subject(c.product), Link: link, Code: l.Code, Valid: spell(l.Valid), Minutes: int(l.Valid / time.Minute)}
	if !l.Happened.IsZero() {
		v.When, v.Time = spellTime(l.Happened), l.Happened.UTC()
	}
	return c.compose(string(kind), l.To, now, v)
}
