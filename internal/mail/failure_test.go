package mail_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// Every attempt asks for a token, and the mail that is accepted has the newest one.
func TestRetryAfterTemporaryRefusal(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var refused atomic.Int32
	server := startSMTP(t, func(s *smtpServer) {
		s.reply = func(verb, data string) string {
			if verb == "." && refused.Add(1) <= 2 {
				return "451 4.7.1 greylisted: " + strings.ReplaceAll(data, "\r\n", " ")
			}
			return ""
		}
	})
	known := newAccounts("ada@example.org")
	outbox, log := newOutbox(t, config(pool, known, sender(t, server, "smtp://mail.example.com")))
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the job is done", func() bool { return jobsIn(t, pool, "completed") == 1 })

	tokens := known.issued("ada@example.org")
	got := server.got()
	if len(got) != 1 || len(tokens) != 3 {
		t.Fatalf("%d mails, %d tokens, want 1 and 3", len(got), len(tokens))
	}
	body := strings.ReplaceAll(got[0].data, "=\r\n", "")
	for i, token := range tokens {
		if strings.Contains(body, token[len("tok+/="):]) != (i == 2) {
			t.Errorf("token %d is wrong in %s", i, body)
		}
	}
	// The server quoted the whole mail in its refusals.
	rows := dump(t, pool)
	noTokens(t, "the table", rows, known)
	noTokens(t, "the log", log.String(), known)
	if n := strings.Count(rows, "server replied 451 4.7.1"); n != 2 {
		t.Errorf("the two refusals are recorded %d times", n)
	}
	if strings.Contains(log.String(), "ada@") || !strings.Contains(log.String(), "trace_id=trace-1") {
		t.Errorf("log: %s", log)
	}
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	var attempts atomic.Int32
	outbox, log := newOutbox(t, config(pool, known, senderFunc(func(context.Context, mail.Message) error {
		attempts.Add(1)
		return &mail.SendError{Op: "connect", Reason: "connection refused"}
	})))
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the job is given up on", func() bool { return jobsIn(t, pool, "discarded") == 1 })
	if n := attempts.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	if stats, err := outbox.Stats(t.Context()); err != nil || stats != (mail.Stats{GivenUp: 1}) {
		t.Errorf("%+v, %v", stats, err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "given up after the last attempt") {
		t.Errorf("log: %s", log)
	}
}

// RFC 5321, 4.2.1: a client must not repeat the same command after 5yz.
func TestPermanentRefusalIsFinal(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	server := startSMTP(t, func(s *smtpServer) {
		s.reply = func(verb, _ string) string {
			if verb == "RCPT" {
				return "550 5.1.1 no such user: ada@example.org"
			}
			return ""
		}
	})
	known := newAccounts("ada@example.org")
	outbox, _ := newOutbox(t, config(pool, known, sender(t, server, "smtp://mail.example.com")))
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the job is cancelled", func() bool { return jobsIn(t, pool, "cancelled") == 1 })
	if n := len(known.issued("ada@example.org")); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	if rows := dump(t, pool); !strings.Contains(rows, "server replied 550 5.1.1: no such user: (address)") || strings.Contains(rows, "ada@") {
		t.Errorf("recorded: %s", rows)
	}
}

// Errors and panics of senders and account stores may hold the whole mail.
func TestNothingSecretIsRecorded(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("error@example.org", "panic@example.org", "wrapped@example.org", "lookup@example.org")
	known.lookup = func(email string) error {
		if email == "lookup@example.org" {
			return errors.New("duplicate key (hunter22)")
		}
		return nil
	}
	outbox, log := newOutbox(t, config(pool, known, senderFunc(func(_ context.Context, m mail.Message) error {
		switch m.To {
		case "panic@example.org":
			panic(m.Text)
		case "wrapped@example.org":
			return fmt.Errorf("%s: %w", m.Text, &mail.SendError{Op: "content", Code: 452})
		}
		return errors.New(m.HTML)
	})))
	start(t, outbox)
	request(t, outbox, "error@example.org", "panic@example.org", "wrapped@example.org", "lookup@example.org")
	eventually(t, "all are given up on", func() bool { return jobsIn(t, pool, "discarded") == 4 })
	rows := dump(t, pool)
	noTokens(t, "the table", rows, known)
	noTokens(t, "the log", log.String(), known)
	for _, want := range []string{"the sender returned *errors.errorString", "mail: panic while sending", "mail: content failed: server replied 452", "looking up the account failed"} {
		if n := strings.Count(rows, want); n != 3 {
			t.Errorf("%q is recorded %d times, want 3", want, n)
		}
	}
	if strings.Contains(rows, "hunter22") {
		t.Error("the words of the account store are in the table")
	}
}

// The account no longer exists, so the job is done.
func TestAccountGoneBetweenAttempts(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	outbox, _ := newOutbox(t, config(pool, known, senderFunc(func(context.Context, mail.Message) error {
		known.forget("ada@example.org")
		return &mail.SendError{Op: "connect"}
	})))
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the job is done", func() bool { return jobsIn(t, pool, "completed") == 1 })
	if n := len(known.issued("ada@example.org")); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

// While a mail to an account is being sent by one replica, no replica makes a token for the next mail to it, and mails
// to other accounts do not wait. Otherwise the mail that arrives last might hold a dead link.
func TestSameAddressWaits(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org", "bob@example.org")
	var (
		mu    sync.Mutex
		sent  []mail.Message
		once  sync.Once
		first = make(chan struct{})
		gate  = make(chan struct{})
	)
	out := senderFunc(func(ctx context.Context, m mail.Message) error {
		if m.To == "ada@example.org" {
			once.Do(func() {
				close(first)
				select {
				case <-gate:
				case <-ctx.Done():
				}
			})
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, m)
		return nil
	})
	for range 2 {
		replica, _ := newOutbox(t, config(pool, known, out))
		start(t, replica)
	}
	outbox, _ := newOutbox(t, config(pool, known, out))
	request(t, outbox, "ada@example.org")
	<-first
	request(t, outbox, "ADA@example.org", "bob@example.org")
	eventually(t, "the second one waits", func() bool {
		return count(t, pool, "SELECT count(*) FROM river_job WHERE args->>'user_id' = $1 AND (metadata->>'snoozes')::int > 0",
			known.ids["ada@example.org"].String()) == 1
	})
	eventually(t, "the other address is served", func() bool { return len(known.issued("bob@example.org")) == 1 })
	if n := len(known.issued("ada@example.org")); n != 1 {
		t.Errorf("%d tokens while the first mail is on its way", n)
	}
	close(gate)
	eventually(t, "all are done", func() bool { return jobsIn(t, pool, "completed") == 3 })
	if n := count(t, pool, "SELECT count(*) FROM river_job WHERE attempt <> 1 OR errors IS NOT NULL"); n != 0 {
		t.Errorf("waiting used up attempts: %s", dump(t, pool))
	}
	tokens := known.issued("ada@example.org")
	mu.Lock()
	defer mu.Unlock()
	if len(tokens) != 2 || len(sent) != 3 {
		t.Fatalf("%d tokens, %d mails", len(tokens), len(sent))
	}
	if last := sent[2]; last.To != "ada@example.org" || !strings.Contains(last.Text, tokens[1][len("tok+/="):]) {
		t.Error("the last mail does not hold the live link")
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	outbox, _ := newOutbox(t, config(pool, newAccounts(), mail.NewMailbox(0, nil)))
	if stats, err := outbox.Stats(t.Context()); err != nil || stats != (mail.Stats{}) {
		t.Errorf("empty: %+v, %v", stats, err)
	}
	for _, trace := range []string{"a", "b", "c"} {
		insertLink(t, pool, uuid.New(), trace)
	}
	request(t, outbox, "d@example.org")
	if _, err := pool.Exec(t.Context(), `UPDATE river_job SET state = 'retryable', attempt = 1, created_at = now() - interval '1 hour',
		errors = '{"{}"}' WHERE args->>'trace_id' = 'a'`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE river_job SET state = 'completed', finalized_at = now(), created_at = now() - interval '2 hours'
		WHERE args->>'trace_id' = 'b'`); err != nil {
		t.Fatal(err)
	}
	stats, err := outbox.Stats(t.Context())
	if err != nil || stats.Pending != 3 || stats.Failing != 1 || stats.GivenUp != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	if stats.Oldest < time.Hour || stats.Oldest > time.Hour+time.Minute {
		t.Errorf("oldest %v", stats.Oldest)
	}
}

// Rows hold addresses, so they are deleted, but not too early.
func TestRetention(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	outbox, _ := newOutbox(t, config(pool, newAccounts(), mail.NewMailbox(0, nil)))
	for name, set := range map[string]string{
		"sent-old":      "state = 'completed', finalized_at = now() - interval '61 minutes'",
		"sent-new":      "state = 'completed', finalized_at = now() - interval '50 minutes'",
		"discarded-old": "state = 'discarded', finalized_at = now() - interval '25 hours'",
		"discarded-new": "state = 'discarded', finalized_at = now() - interval '23 hours'",
		"cancelled-old": "state = 'cancelled', finalized_at = now() - interval '25 hours'",
		"cancelled-new": "state = 'cancelled', finalized_at = now() - interval '23 hours'",
	} {
		insertLink(t, pool, uuid.New(), name)
		if _, err := pool.Exec(t.Context(), "UPDATE river_job SET "+set+" WHERE args->>'trace_id' = $1", name); err != nil {
			t.Fatal(err)
		}
	}
	start(t, outbox)
	eventually(t, "the old rows go", func() bool {
		return count(t, pool, "SELECT count(*) FROM river_job WHERE args->>'trace_id' LIKE '%-old'") == 0
	})
	if n := count(t, pool, "SELECT count(*) FROM river_job"); n != 3 {
		t.Errorf("%d rows left, want 3", n)
	}
}

// The outbox shares the table with other jobs.
func TestSweepIsNoMail(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	cfg := config(pool, newAccounts(), mail.NewMailbox(0, nil))
	outbox, _ := newOutboxWith(t, cfg, jobs.Config{Sweep: func(context.Context) error { return errors.New("disk full") }})
	start(t, outbox)
	eventually(t, "the sweep has failed", func() bool {
		return count(t, pool, "SELECT count(*) FROM river_job WHERE kind = 'sweep' AND state = 'discarded'") == 1
	})
	if stats, err := outbox.Stats(t.Context()); err != nil || stats != (mail.Stats{}) {
		t.Errorf("a sweep counts as a mail: %+v, %v", stats, err)
	}
}
