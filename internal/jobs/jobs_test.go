package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// log is a log that many goroutines may write.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns everything that was written.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connect(t, testenv.Migrated(t))
}

func newQueue(t *testing.T, cfg jobs.Config) *jobs.Queue {
	t.Helper()
	queue, err := jobs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

// start starts the queue and returns a function that stops it.
func start(t *testing.T, queue *jobs.Queue) (stop func()) {
	t.Helper()
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := queue.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	pool, written := newPool(t), &log{}
	var calls atomic.Int32
	cfg := jobs.Config{Pool: pool, Logger: slog.New(slog.NewTextHandler(written, nil)), Sweep: func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		calls.Add(1)
		return errors.New("disk full")
	}}
	// Two replicas: only the leader inserts sweeps.
	defer start(t, newQueue(t, cfg))()
	defer start(t, newQueue(t, cfg))()
	testenv.Eventually(t, 30*time.Second, "the sweep has failed and is not repeated", func() bool {
		var n int
		err := pool.QueryRow(t.Context(), "SELECT count(*) FROM river_job WHERE kind = 'sweep' AND queue = 'upkeep' AND state = 'discarded'").Scan(&n)
		return err == nil && n == 1
	})
	if n := calls.Load(); n != 1 {
		t.Errorf("%d sweeps, want 1", n)
	}
	if text := written.String(); strings.Count(text, "disk full") != 1 {
		t.Errorf("log: %s", text)
	}
}

// welcomeArgs and welcomeWorker are all the code that a feature needs for a job of its own.
type welcomeArgs struct {
	UserID uuid.UUID `json:"user_id"`
}

// Kind implements river.JobArgs.
func (welcomeArgs) Kind() string { return "welcome" }

type welcomeWorker struct {
	river.WorkerDefaults[welcomeArgs]
	worked chan<- uuid.UUID
}

// Work implements river.Worker.
func (w *welcomeWorker) Work(_ context.Context, job *river.Job[welcomeArgs]) error {
	w.worked <- job.Args.UserID
	return nil
}

// TestFeatureAddsAJob shows all the code that a feature needs for a job: a worker, a queue of this package, an insert
// in its transaction. The job runs once, on one of the replicas, and only if the transaction commits.
func TestFeatureAddsAJob(t *testing.T) {
	t.Parallel()
	pool, worked := newPool(t), make(chan uuid.UUID, 3)
	var inserter *jobs.Queue
	for range 2 {
		queue := newQueue(t, jobs.Config{Pool: pool})
		if err := jobs.AddWorker(queue, &welcomeWorker{worked: worked}); err != nil {
			t.Fatal(err)
		}
		inserter = queue
		defer start(t, queue)()
	}
	insert := func(user uuid.UUID, end func(pgx.Tx) error) {
		t.Helper()
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = inserter.Insert(t.Context(), tx, welcomeArgs{UserID: user}, &river.InsertOpts{Queue: jobs.MailNotices})
		if err := errors.Join(err, end(tx)); err != nil {
			t.Fatal(err)
		}
	}
	kept := uuid.New()
	insert(uuid.New(), func(tx pgx.Tx) error { return tx.Rollback(t.Context()) })
	insert(kept, func(tx pgx.Tx) error { return tx.Commit(t.Context()) })
	if got := <-worked; got != kept {
		t.Errorf("the job of %v ran, want that of %v", got, kept)
	}
	testenv.Eventually(t, 30*time.Second, "its row says that it is done", func() bool {
		var all, done int
		err := pool.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE state = 'completed') FROM river_job WHERE kind = 'welcome'").Scan(&all, &done)
		return err == nil && all == 1 && done == 1
	})
	if len(worked) != 0 {
		t.Error("it ran twice")
	}
}

// Each replica runs a task from Start to Stop, and Stop waits until it returns.
func TestTasks(t *testing.T) {
	t.Parallel()
	queue := newQueue(t, jobs.Config{Pool: newPool(t)})
	begun, ended := make(chan struct{}), false
	err := queue.AddTask(func(ctx context.Context) {
		close(begun)
		<-ctx.Done()
		ended = true
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, queue)
	<-begun
	stop()
	if !ended {
		t.Error("Stop did not wait for the task")
	}
}

// Adding a worker that River would never call is an error.
func TestAddedTooLate(t *testing.T) {
	t.Parallel()
	if _, err := jobs.New(jobs.Config{}); err == nil {
		t.Error("a queue without a database")
	}
	queue := newQueue(t, jobs.Config{Pool: newPool(t)})
	if err := jobs.AddWorker(queue, &welcomeWorker{}); err != nil {
		t.Error(err)
	}
	if err := jobs.AddWorker(queue, &welcomeWorker{}); err == nil || errors.Is(err, jobs.ErrBuilt) {
		t.Errorf("two workers for one kind: %v", err)
	}
	start(t, queue)()
	if err := jobs.AddWorker(queue, &welcomeWorker{}); !errors.Is(err, jobs.ErrBuilt) {
		t.Errorf("a worker after the first use: %v", err)
	}
	if err := queue.AddTask(func(context.Context) {}); !errors.Is(err, jobs.ErrBuilt) {
		t.Errorf("a task after the first use: %v", err)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	pool := connect(t, testenv.EmptyDatabase(t))
	before, err := jobs.Status(t.Context(), pool)
	if err != nil || before.Current != 0 || before.Latest < 8 {
		t.Fatalf("%+v, %v", before, err)
	}
	for range 2 {
		if err := jobs.Migrate(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := jobs.Status(t.Context(), pool); err != nil || after.Current != before.Latest || after.Latest != before.Latest {
		t.Errorf("%+v, %v", after, err)
	}
	// A replica of the previous release starts beside a replica of the next one.
	if _, err := pool.Exec(t.Context(), "INSERT INTO river_migration (line, version) VALUES ('main', 99)"); err != nil {
		t.Fatal(err)
	}
	if err := jobs.Migrate(t.Context(), pool); err != nil {
		t.Error(err)
	}
	if newer, err := jobs.Status(t.Context(), pool); err != nil || newer.Current != 99 {
		t.Errorf("%+v, %v", newer, err)
	}
}
