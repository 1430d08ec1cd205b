// Package mail sends the service's mails and keeps them from getting lost.
//
// An [Outbox] is a table of jobs in PostgreSQL. A job is inserted in the transaction that decided on the
// mail, so that the mail goes out exactly when that transaction commits, and survives a crash of the process.
// It holds an account's id, never a token: a reset link is made in the moment it is sent and exists in memory only.
// A [Sender] delivers: [SMTP] to a mail server, [Mailbox] to a page for development.
//
// Delivery is at least once: a process that dies between the mail server's acknowledgement and the note of it
// sends the mail again.
package mail

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// Message is one mail to one person.
type Message struct {
	// To is the bare address (no display name) of the recipient, its domain as the DNS has it.
	To string
	// Subject is one line without control characters.
	Subject string
	// Text and HTML say the same thing twice; neither may be empty.
	Text string
	HTML string
	// Time is when the mail was written: its Date header.
	Time time.Time
	// Language is the BCP 47 tag of its words; it may be empty.
	Language string
}

// Sender delivers one message. It returns nil only when the message was handed over for good. An error that
// should reach the job's record has to be a [*SendError]: of anything else only the type is kept, because the
// words of a mail server may repeat the mail.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// SendError says why a message was not delivered. Its text is made of this package's words, of the server's
// status codes, and of what is left of the server's text once all that it may quote is out: servers repeat
// the commands and content they refuse, and the content is a password reset link.
type SendError struct {
	// Op is the step that failed, such as "connect" or "recipient".
	Op string
	// Reason is a short explanation in this package's words; it may be empty.
	Reason string
	// Code is the server's reply code (RFC 5321, 4.2), 0 without a reply.
	Code int
	// Enhanced is the enhanced status code (RFC 3463) such as "4.7.0", or empty.
	Enhanced string
	// Text is what the server said, one line without addresses and without what it quotes of the mail; it may
	// be empty.
	Text string
	// Permanent means that the same message will be refused again: the server answered 5yz to the recipient
	// or the content (RFC 5321, 4.2.1), other than 5.7.x (policy, which an operator can mend) and 5.2.2 (a
	// mailbox that is full).
	Permanent bool

	// cause is a context error or nil: nothing else is safe to hand on.
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

// Unwrap returns context.Canceled or context.DeadlineExceeded when that is what stopped the delivery, else
// nil.
func (e *SendError) Unwrap() error { return e.cause }
