package mail

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/internal/jobs"
)

const (
	// ChangeEmail is the mail to a new address, with which the owner of an account proves it.
	ChangeEmail LetterKind = "change_email"
	// EmailChangedUndo is [EmailChanged] with a link that undoes the change. Both have one template.
	EmailChangedUndo LetterKind = LetterKind(EmailChanged)
)

// undoParameter comes before the token in links that undo a change of address, so that the page knows which of the two
// methods to call. The service does not rely on it: a token is good for one of them only.
const undoParameter = "undo=1"

// ParseEmailChangeURL checks the address of the page to which links about a change of address lead. The rules are those
// of [ParseResetURL], and it has no undo parameter either.
func ParseEmailChangeURL(raw string, insecure bool) (*url.URL, error) {
	page, err := ParseResetURL(raw, insecure)
	if err != nil {
		return nil, err
	}
	switch has, err := hasParameter(page, "undo"); {
	case err != nil:
		return nil, err
	case has:
		return nil, fmt.Errorf("%w: the query already has an undo parameter", ErrResetURL)
	}
	return page, nil
}

// SendLetter queues the mail of a secret that is stored already. It does not count the mail.
func (o *Outbox) SendLetter(ctx context.Context, tx pgx.Tx, kind LetterKind, link Link) error {
	options := o.delivery.letterOptions(priorityFirst)
	if kind == EmailChangedUndo { // a warning, which is tried for as long as one
		options = &river.InsertOpts{Queue: jobs.MailNotices, MaxAttempts: o.notice}
	}
	args := letterArgs{
		Letter: kind, UserID: link.UserID, Position: link.Position, TraceID: cleanTraceID(link.TraceID), CallID: link.CallID,
		Address: link.Address,
	}
	if err := o.jobs.Insert(ctx, tx, args, options); err != nil {
		return fmt.Errorf("mail: queue the letter: %w", err)
	}
	return nil
}

// NotifyFormer queues a notice to an address that an account had before, which is kept as for [Outbox.Farewell]. The notice
// is always sent.
func (o *Outbox) NotifyFormer(ctx context.Context, tx pgx.Tx, notice Notice, to, traceID string) error {
	if !notice.known() {
		return fmt.Errorf("mail: unknown notice %q", string(notice))
	}
	if !isAddress(to) { // the contract of the older backends accepts addresses to which no mail can be sent
		return nil
	}
	return o.queueFarewell(ctx, tx, notice, to, traceID)
}
