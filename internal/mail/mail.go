// Package mail sends the mails of the service, and does not lose any.
//
// An [Outbox] is a table of jobs in PostgreSQL. A job is inserted in the transaction that decided on the mail. So the
// mail is sent only if that transaction commits, and then even if the process crashes. The job has the id of an
// account, never a token. A reset link is made when it is sent, and exists only in memory. A [Sender] delivers mails:
// [SMTP] to a mail server, [Mailbox] to a page for development.
//
// A mail may be sent twice: if a process dies after the mail server has accepted the mail and before that is recorded,
// another process sends it again.
package mail

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// Message is one mail to one person.
type Message struct {
	// To is the bare address of the recipient (no display name), with the domain in the form of the DNS.
	To string
	// Subject is one line without control characters.
	Subject string
	// Text and HTML have the same content. Neither may be empty.
	Text string
	HTML string
	// Time is when the mail was written. It becomes the Date header.
	Time time.Time
	// Language is the BCP 47 tag of its language. It may be empty.
	Language string
}

// Sender delivers one message. It returns nil only if another system has taken responsibility for it. Only a
// [*SendError] is stored with its text. Of any other error only the type is stored, because the text of a mail server
// may quote the mail.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// SendError says why a message was not delivered. Its text has words of this package, the status codes of the server,
// and the part of the server's text that cannot be a quotation. Servers quote the commands and content that they
// refuse, and the content is a password reset link.
type SendError struct {
	// Op is the step that failed, such as "connect" or "recipient".
	Op string
	// Reason is a short explanation in words of this package. It may be empty.
	Reason string
	// Code is the server's reply code (RFC 5321, 4.2), or 0 if it did not reply.
	Code int
	// Enhanced is the enhanced status code (RFC 3463) such as "4.7.0", or empty.
	Enhanced string
	// Text is the text of the server, in one line, without addresses and without parts of the mail. It may be empty.
	Text string
	// Permanent means that the server will refuse the same message again: it answered 5yz to the recipient or the
	// content (RFC 5321, 4.2.1). 5.7.x (policy, which an operator can change) and 5.2.2 (a full mailbox) are not
	// permanent.
	Permanent bool

	// cause is a context error or nil. No other error is safe to pass on.
	cause error
}

// Error describes the failure without a secret.
func (e *SendError) Error() string {
	var b strings.Builder
	b.WriteString("mail: ")
	b.WriteString(e.Op)
	b.WriteString(" failed")
	if e.Reason != "" {
		b.WriteString(": ")
		b.WriteString(e.Reason)
	}
	if e.Code != 0 {
		b.WriteString(": server replied ")
		b.WriteString(strconv.Itoa(e.Code))
		if e.Enhanced != "" {
			b.WriteString(" ")
			b.WriteString(e.Enhanced)
		}
		if e.Text != "" {
			b.WriteString(": ")
			b.WriteString(e.Text)
		}
	}
	return b.String()
}

// Unwrap returns context.Canceled or context.DeadlineExceeded if that stopped the delivery, or else nil.
func (e *SendError) Unwrap() error { return e.cause }
