package mail_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// emptyPool connects to a new database without tables.
func emptyPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connect(t, testenv.EmptyDatabase(t))
}

// newPool connects to a new database with all tables.
func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connect(t, testenv.Migrated(t))
}

// accounts finds accounts under typed addresses and counts the tokens that it makes.
type accounts struct {
	mu     sync.Mutex
	known  map[string]string // typed, in lower case: the address to send to
	users  map[uuid.UUID]string
	ids    map[string]uuid.UUID // by the address to send to
	tokens map[string][]string  // by address, oldest first
	lookup func(email string) error
	// Notices in refused are not admitted.
	refused map[mail.Notice]bool
}

func newAccounts(addresses ...string) *accounts {
	a := &accounts{known: map[string]string{}, users: map[uuid.UUID]string{}, ids: map[string]uuid.UUID{}, tokens: map[string][]string{}}
	for _, address := range addresses {
		a.ids[address] = uuid.New()
		a.known[strings.ToLower(address)] = address
	}
	return a
}

func (a *accounts) FindResetAccounts(_ context.Context, _ pgx.Tx, emails []string) (map[int]uuid.UUID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := map[int]uuid.UUID{}
	for i, email := range emails {
		if to, ok := a.known[strings.ToLower(email)]; ok {
			found[i] = a.ids[to]
		}
	}
	return found, nil
}

func (a *accounts) IssueReset(_ context.Context, link mail.Link) (string, string, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for email, to := range a.known {
		if a.ids[to] != link.UserID {
			continue
		}
		if a.lookup != nil {
			if err := a.lookup(email); err != nil {
				return "", "", false, err
			}
		}
		// It has the characters that a URL must escape.
		token := "tok+/=" + rand.Text()
		a.tokens[to] = append(a.tokens[to], token)
		return to, token, true, nil
	}
	return "", "", false, nil
}

func (a *accounts) Address(_ context.Context, userID uuid.UUID) (string, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to, ok := a.users[userID]
	return to, ok, nil
}

// FindLetterAccounts finds the same accounts as FindResetAccounts.
func (a *accounts) FindLetterAccounts(ctx context.Context, tx pgx.Tx, _ mail.LetterKind, emails []string) (map[int]uuid.UUID, error) {
	return a.FindResetAccounts(ctx, tx, emails)
}

// IssueLetter gives each letter the same code.
func (a *accounts) IssueLetter(ctx context.Context, _ mail.LetterKind, link mail.Link) (mail.Letter, error) {
	to, token, _, err := a.IssueReset(ctx, link)
	return mail.Letter{To: to, Token: token, Code: "042137", Valid: 24 * time.Hour}, err
}

// AdmitNotice refuses the notices in refused.
func (a *accounts) AdmitNotice(_ context.Context, _ pgx.Tx, notice mail.Notice, _ uuid.UUID) (bool, error) {
	return !a.refused[notice], nil
}

func (a *accounts) issued(address string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.tokens[address])
}

func (a *accounts) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(a.tokens))...)
}

func (a *accounts) forget(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, strings.ToLower(address))
}

// safeBuffer is a log that many goroutines may write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func config(pool *pgxpool.Pool, a mail.Accounts, s mail.Sender) mail.Config {
	cfg := mail.Config{
		Pool: pool, Accounts: a, Sender: s, ResetURL: "https://app.example.com/reset?lang=en", ResetTTL: 30 * time.Minute,
		ProductName: "app.example.com", Now: func() time.Time { return written },
	}
	cfg.SetWaits(10*time.Millisecond, 10*time.Millisecond)
	return cfg
}

// outbox is an Outbox with the queue that works its jobs.
type outbox struct {
	*mail.Outbox
	queue *jobs.Queue
}

// Start starts to look accounts up and to send.
func (o *outbox) Start(ctx context.Context) error { return o.queue.Start(ctx) }

// Stop stops both.
func (o *outbox) Stop(ctx context.Context) error { return o.queue.Stop(ctx) }

func newOutbox(t *testing.T, cfg mail.Config) (*outbox, *safeBuffer) {
	t.Helper()
	return newOutboxWith(t, cfg, jobs.Config{})
}

func newOutboxWith(t *testing.T, cfg mail.Config, queued jobs.Config) (*outbox, *safeBuffer) {
	t.Helper()
	log := &safeBuffer{}
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	queued.Pool, queued.Logger = cfg.Pool, cfg.Logger
	queue, err := jobs.New(queued)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Jobs = queue
	made, err := mail.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &outbox{made, queue}, log
}

func start(t *testing.T, outbox *outbox) {
	t.Helper()
	if err := outbox.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := outbox.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// notify queues a notice without a transaction.
func notify(t *testing.T, outbox *outbox, notice mail.Notice, user uuid.UUID) {
	t.Helper()
	if err := outbox.Notify(t.Context(), nil, notice, user, "trace-1"); err != nil {
		t.Fatal(err)
	}
}

// request requests a reset without a transaction.
func request(t *testing.T, outbox *outbox, emails ...string) {
	t.Helper()
	for _, email := range emails {
		if err := outbox.RequestReset(t.Context(), mail.Request{Email: email, TraceID: "trace-1"}); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits until other goroutines have done something.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, what, done)
}

// count runs a query that returns one number.
func count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// jobsIn counts the mail jobs in a state.
func jobsIn(t *testing.T, pool *pgxpool.Pool, state string) int {
	t.Helper()
	return count(t, pool, "SELECT count(*) FROM river_job WHERE queue LIKE 'mail%' AND state::text = $1", state)
}

// waiting counts the requests whose account was not looked up yet.
func waiting(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return count(t, pool, "SELECT count(*) FROM reset_requests")
}

// insertLink inserts the job of a link in the same way as the look-up.
func insertLink(t *testing.T, pool *pgxpool.Pool, user uuid.UUID, trace string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `INSERT INTO river_job (kind, queue, args, max_attempts)
		VALUES ('reset_link', 'mail_links', jsonb_build_object('user_id', $1::text, 'ledger', 0, 'trace_id', $2::text), 3)`,
		user.String(), trace); err != nil {
		t.Fatal(err)
	}
}

// dump returns everything in the job table.
func dump(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var text string
	if err := pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(j::text, E'\\n'), '') FROM river_job j").Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// noTokens checks that neither a token nor a link is in text.
func noTokens(t *testing.T, where, text string, a *accounts) {
	t.Helper()
	for _, token := range a.all() {
		// The random part is the same in every encoding of the rest.
		if strings.Contains(text, token[len("tok+/="):]) {
			t.Errorf("%s holds a token", where)
		}
	}
	if strings.Contains(text, "token=") || strings.Contains(text, "app.example.com") {
		t.Errorf("%s holds a link: %s", where, text)
	}
}

// link finds the reset link in the text of a mail.
func link(t *testing.T, text string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^https://\S+$`).FindAllString(text, -1)
	if len(found) != 1 {
		t.Fatalf("%d links in %q", len(found), text)
	}
	return found[0]
}
