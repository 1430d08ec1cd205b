package mail_test

import (
	"context"
	"errors"
	"html"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// From the request to the mail server: request, account, job, token, mail.
func TestResetOverSMTP(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	server := startSMTP(t, nil)
	known := newAccounts("Ada@example.org")
	outbox, log := newOutbox(t, config(pool, known, sender(t, server, "smtp://mail.example.com")))
	start(t, outbox)

	request(t, outbox, "ada@EXAMPLE.org")
	eventually(t, "the mail arrives", func() bool { return len(server.got()) == 1 })
	eventually(t, "the job is done", func() bool { return jobsIn(t, pool, "completed") == 1 })

	m := server.got()[0]
	if m.to != "Ada@example.org" || !m.tls {
		t.Errorf("to %q, TLS %v", m.to, m.tls)
	}
	if !strings.Contains(m.data, "Subject: Reset your password for app.example.com\r\n") {
		t.Error("the subject is not there")
	}
	noTokens(t, "the table", dump(t, pool), known)
	noTokens(t, "the log", log.String(), known)
}

// A server without SMTPUTF8 gets a mail to a domain in letters of any script.
func TestDomainInASCII(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	server := startSMTP(t, nil)
	outbox, _ := newOutbox(t, config(pool, newAccounts("Ida@Bücher.example"), sender(t, server, "smtp://mail.example.com")))
	start(t, outbox)
	request(t, outbox, "ida@bücher.example")
	eventually(t, "the mail arrives", func() bool { return len(server.got()) == 1 })
	if m := server.got()[0]; m.to != "Ida@xn--bcher-kva.example" || !strings.Contains(m.data, "To: <Ida@xn--bcher-kva.example>\r\n") {
		t.Errorf("to %q:\n%s", m.to, m.data)
	}
}

// TestResetMail checks the words, the link in both forms, and its parameters.
func TestResetMail(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	box := mail.NewMailbox(0, nil)
	cfg := config(pool, known, box)
	cfg.ProductName = "Tea & <Cake>"
	cfg.ResetURL = "https://app.example.com/a/reset?lang=en&x=1%202"
	outbox, _ := newOutbox(t, cfg)
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the mail arrives", func() bool { return len(box.Messages()) == 1 })

	m := box.Messages()[0]
	if m.To != "ada@example.org" || m.Subject != "Reset your password for Tea & <Cake>" || !m.Time.Equal(written) {
		t.Errorf("%q %q %v", m.To, m.Subject, m.Time)
	}
	tokens := known.issued("ada@example.org")
	want := "https://app.example.com/a/reset?lang=en&x=1%202&token=" + url.QueryEscape(tokens[0])
	if got := link(t, m.Text); got != want || len(tokens) != 1 {
		t.Errorf("link %s, want %s", got, want)
	}
	u, err := url.Parse(link(t, m.Text))
	if err != nil || u.Query().Get("token") != tokens[0] || u.Query().Get("lang") != "en" {
		t.Errorf("%v %v", u, err)
	}
	// Once in the button, and once to copy.
	if n := strings.Count(html.UnescapeString(m.HTML), want); n != 2 {
		t.Errorf("%d links in the HTML: %s", n, m.HTML)
	}
	if !strings.Contains(m.HTML, "Tea &amp; &lt;Cake&gt;") || strings.Contains(m.HTML, "<Cake>") {
		t.Error("the product name is not escaped")
	}
	for _, words := range []string{"30 minutes", "ignore this mail", "works once"} {
		if !strings.Contains(m.Text, words) || !strings.Contains(m.HTML, words) {
			t.Errorf("%q is missing", words)
		}
	}
}

func TestRolledBackNoticeIsNotSent(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	box := mail.NewMailbox(0, nil)
	known := newAccounts()
	ada, bob := uuid.New(), uuid.New()
	known.users[ada], known.users[bob] = "a@example.org", "b@example.org"
	outbox, _ := newOutbox(t, config(pool, known, box))
	start(t, outbox)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Notify(t.Context(), tx, mail.PasswordChanged, ada, ""); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	notify(t, outbox, mail.PasswordChanged, bob)
	eventually(t, "the committed one arrives", func() bool { return jobsIn(t, pool, "completed") == 1 })
	if got := box.Messages(); len(got) != 1 || got[0].To != "b@example.org" {
		t.Errorf("sent %v", got)
	}
	if n := count(t, pool, "SELECT count(*) FROM river_job"); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// Nothing is sent. Before the look-up the stored row has the same shape as for a known address, and after it nothing is
// stored.
func TestUnknownAddress(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	box := mail.NewMailbox(0, nil)
	outbox, log := newOutbox(t, config(pool, newAccounts("ada@example.org"), box))
	request(t, outbox, "ada@example.org", "bob@example.org")
	shapes := count(t, pool, "SELECT count(DISTINCT (priority, ledger, trace_id, octet_length(email))) FROM reset_requests")
	if n := count(t, pool, "SELECT count(*) FROM river_job"); shapes != 1 || n != 0 {
		t.Errorf("%d shapes of rows, %d jobs", shapes, n)
	}
	start(t, outbox)
	eventually(t, "the mail is sent", func() bool { return jobsIn(t, pool, "completed") == 1 })
	if got := box.Messages(); len(got) != 1 || got[0].To != "ada@example.org" {
		t.Errorf("sent %v", got)
	}
	if n := waiting(t, pool); n != 0 {
		t.Errorf("%d requests are kept", n)
	}
	if rows := dump(t, pool); strings.Contains(log.String()+rows, "example.org") {
		t.Errorf("the log or the table has addresses: %s %s", log, rows)
	}
}

// The process that inserted the request is gone, and another one sends the mail.
func TestCrashBeforeSending(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	dead, _ := newOutbox(t, config(pool, known, mail.NewMailbox(0, nil)))
	request(t, dead, "ada@example.org")

	box := mail.NewMailbox(0, nil)
	outbox, _ := newOutbox(t, config(pool, known, box))
	start(t, outbox)
	eventually(t, "the mail arrives", func() bool { return len(box.Messages()) == 1 })
}

// The row says that the job is running, but no process runs it any more.
func TestCrashWhileSending(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	box := mail.NewMailbox(0, nil)
	outbox, _ := newOutbox(t, config(pool, known, box))
	insertLink(t, pool, known.ids["ada@example.org"], "trace-1")
	if _, err := pool.Exec(t.Context(), `UPDATE river_job SET state = 'running', attempt = 1,
		attempted_at = now() - interval '121 seconds', attempted_by = '{dead}'`); err != nil {
		t.Fatal(err)
	}
	start(t, outbox)
	eventually(t, "the mail arrives", func() bool { return len(box.Messages()) == 1 })
}

// A mail that is being sent when the process stops is not lost, and the attempt is not counted.
func TestStopInterrupts(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts("ada@example.org")
	sending := make(chan struct{})
	outbox, log := newOutbox(t, config(pool, known, senderFunc(func(ctx context.Context, _ mail.Message) error {
		close(sending)
		<-ctx.Done()
		return ctx.Err()
	})))
	if err := outbox.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	request(t, outbox, "ada@example.org")
	<-sending
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := outbox.Stop(impatient); err != nil {
		t.Fatal(err)
	}
	if n := count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0 AND errors IS NULL"); n != 1 {
		t.Errorf("the job was not put back: %s", dump(t, pool))
	}
	if strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("a stop alarms: %s", log)
	}
	box := mail.NewMailbox(0, nil)
	next, _ := newOutbox(t, config(pool, known, box))
	start(t, next)
	eventually(t, "the mail arrives", func() bool { return len(box.Messages()) == 1 })
}

// The job queue alone takes 7 s and three errors when it cannot give up its leadership.
func TestStopWithoutPostgres(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(*testenv.Proxy){"gone": (*testenv.Proxy).Cut, "hangs": (*testenv.Proxy).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := newPool(t)
			proxy := testenv.NewProxy(t, direct.Config().ConnString())
			outbox, log := newOutbox(t, config(connect(t, proxy.URL()), newAccounts(), mail.NewMailbox(0, nil)))
			if err := outbox.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it leads", func() bool { return count(t, direct, "SELECT count(*) FROM river_leader") == 1 })
			take(proxy)
			begun := time.Now()
			if err := outbox.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "PostgreSQL does not answer") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begun); took > 6*time.Second {
				t.Errorf("it took %s", took)
			}
			if strings.Contains(log.String(), "resign") {
				t.Errorf("log: %s", log)
			}
			proxy.Restore() // closing the pool waits for connections that do not answer
		})
	}
}

// The context of Start often ends with the setup phase of a program.
func TestStartOutlivesItsContext(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	box := mail.NewMailbox(0, nil)
	cfg := config(pool, newAccounts("ada@example.org"), box)
	outbox, _ := newOutboxWith(t, cfg, jobs.Config{PollOnly: true})
	ctx, cancel := context.WithCancel(t.Context())
	if err := outbox.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	request(t, outbox, "ada@example.org")
	eventually(t, "the mail arrives, without LISTEN", func() bool { return len(box.Messages()) == 1 })
	if n := count(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"); n != 0 {
		t.Error("something listens")
	}
	if err := outbox.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestResetRefuses(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	outbox, _ := newOutbox(t, config(pool, newAccounts(), mail.NewMailbox(0, nil)))
	for _, email := range []string{"", strings.Repeat("a", 321), "a\x00@example.org", "a@example.org\r\n", "\xff@example.org"} {
		if err := outbox.RequestReset(t.Context(), mail.Request{Email: email}); !errors.Is(err, mail.ErrAddress) {
			t.Errorf("%q: %v", email, err)
		}
	}
	for _, trace := range []string{"a\x00b", strings.Repeat("t", 129), "\xff", "x\ny"} {
		if err := outbox.RequestReset(t.Context(), mail.Request{Email: strings.Repeat("ü", 160), TraceID: trace}); err != nil {
			t.Errorf("trace %q: %v", trace, err)
		}
	}
	if n := count(t, pool, "SELECT count(*) FROM reset_requests WHERE trace_id = ''"); n != 4 {
		t.Errorf("%d rows, want 4 without a trace id", n)
	}
}

func newQueue(t *testing.T, pool *pgxpool.Pool) *jobs.Queue {
	t.Helper()
	queue, err := jobs.New(jobs.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	pool := emptyPool(t)
	for name, change := range map[string]func(*mail.Config){
		"no pool":           func(c *mail.Config) { c.Pool = nil },
		"no jobs":           func(c *mail.Config) { c.Jobs = nil },
		"no accounts":       func(c *mail.Config) { c.Accounts = nil },
		"no sender":         func(c *mail.Config) { c.Sender = nil },
		"no lifetime":       func(c *mail.Config) { c.ResetTTL = 0 },
		"no reset URL":      func(c *mail.Config) { c.ResetURL = "" },
		"plain reset URL":   func(c *mail.Config) { c.ResetURL = "http://app.example.com" },
		"no product":        func(c *mail.Config) { c.ProductName = "" },
		"two-line product":  func(c *mail.Config) { c.ProductName = "a\r\nBcc: b@example.org" },
		"product not UTF-8": func(c *mail.Config) { c.ProductName = "\xff" },
	} {
		cfg := config(pool, newAccounts(), mail.NewMailbox(0, nil))
		cfg.Jobs = newQueue(t, pool)
		change(&cfg)
		if _, err := mail.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := mail.New(mail.Config{
		Jobs: newQueue(t, pool),
		Pool: pool, Accounts: newAccounts(), Sender: mail.NewMailbox(0, nil), ResetURL: "http://localhost:3000/reset", ResetTTL: time.Minute,
		ProductName: "Example",
	}); err != nil {
		t.Errorf("the least that is needed: %v", err)
	}
}
