package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// patience bounds every step of the set-up; the longest is the download of PostgreSQL.
const patience = 10 * time.Minute

// postgres is the server of a test binary.
type postgres struct {
	server  *devstack.Postgres
	admin   *pgxpool.Pool
	scratch *devstack.Scratch
	counter atomic.Int64

	mu        sync.Mutex
	templates map[string]*template
}

// template is a database that was migrated once. Nobody can connect to it: PostgreSQL clones only databases without
// connections.
type template struct {
	once sync.Once
	name string
	err  error
}

// Database returns the URL of a migrated database that only this test uses. It is a clone of a database that migrate
// has migrated, once for each test binary and hashOfMigrations; migrate must close its connections. When the test ends,
// the database is dropped, even if connections to it are open.
func Database(t testing.TB, migrate func(ctx context.Context, url string) error, hashOfMigrations string) string {
	t.Helper()
	return database(t, func(ctx context.Context, p *postgres) (string, error) {
		return p.template(ctx, migrate, hashOfMigrations)
	})
}

// EmptyDatabase returns the URL of a database without any table that only this test uses, dropped when the test ends.
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	// template0 is used because it allows no connections either.
	return database(t, func(context.Context, *postgres) (string, error) { return "template0", nil })
}

func database(t testing.TB, source func(context.Context, *postgres) (string, error)) string {
	t.Helper()
	p, err := shared.server()
	if err != nil {
		t.Fatalf("testenv: PostgreSQL for the tests: %v", err)
	}
	from, err := source(t.Context(), p)
	if err != nil {
		t.Fatalf("testenv: migrate the template database: %v", err)
	}
	name := "test_" + strconv.FormatInt(p.counter.Add(1), 10)
	if err := p.clone(t.Context(), name, from); err != nil {
		t.Fatalf("testenv: clone a database: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context is over by now.
		if err := p.drop(context.WithoutCancel(t.Context()), name); err != nil {
			t.Errorf("testenv: drop database %s: %v", name, err)
		}
	})
	return p.server.URL(name)
}

func startPostgres() (_ *postgres, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	parent := memoryDir()
	if parent == "" {
		parent = os.TempDir()
	}
	p := &postgres{templates: map[string]*template{}}
	if p.scratch, err = devstack.NewScratch(parent); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // there is no home directory, as for an account of a CI job
	}
	p.server, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{
		DataDir:        filepath.Join(p.scratch.Dir, "data"),
		MaxConnections: 400, // every parallel test has a pool or several
		CacheDir:       filepath.Join(cache, "latchkey"),
		Notify:         func(message string) { fmt.Fprintln(os.Stderr, "testenv:", message) },
		Settings: map[string]string{
			// Nothing here lives long enough to need a vacuum, and one would delay the clones.
			"autovacuum": "off",
			// At this level a clone writes only a checkpoint, and no log of the copied files.
			"wal_level": "minimal", "max_wal_senders": "0",
			"max_wal_size": "128MB", "min_wal_size": "32MB", "shared_buffers": "32MB",
		},
	})
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(p.server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	config.MaxConns = 4
	p.admin, err = pgxpool.NewWithConfig(ctx, config)
	return p, err
}

func (p *postgres) close() error {
	if p.admin != nil {
		p.admin.Close()
	}
	var err error
	if p.server != nil {
		// The data is deleted too, so nothing is worth waiting for.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err = p.server.Stop(ctx)
	}
	return errors.Join(err, p.scratch.Remove())
}

// template returns the database that was migrated for hash. The first call for hash makes it.
func (p *postgres) template(
	ctx context.Context, migrate func(ctx context.Context, url string) error, hash string,
) (string, error) {
	p.mu.Lock()
	entry, ok := p.templates[hash]
	if !ok {
		entry = &template{name: "template_" + strconv.Itoa(len(p.templates)+1)}
		p.templates[hash] = entry
	}
	p.mu.Unlock()
	entry.once.Do(func() {
		// Other tests wait for it, so it does not end with the test that came first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		entry.err = p.migrateTemplate(ctx, entry.name, migrate)
	})
	return entry.name, entry.err
}

func (p *postgres) migrateTemplate(
	ctx context.Context, name string, migrate func(ctx context.Context, url string) error,
) error {
	if err := p.clone(ctx, name, "template0"); err != nil {
		return err
	}
	if err := migrate(ctx, p.server.URL(name)); err != nil {
		return err
	}
	if _, err := p.admin.Exec(ctx, "ALTER DATABASE "+quote(name)+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	// The server ends a closed connection a moment later; one that was left open is ended here.
	const wait = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"
	_, err := p.admin.Exec(ctx, wait, name)
	return err
}

// clone copies a database file by file. For small ones that is several times faster than through the log. Older servers
// have no other way.
func (p *postgres) clone(ctx context.Context, name, source string) error {
	statement := "CREATE DATABASE " + quote(name) + " TEMPLATE " + quote(source)
	if p.server.Major() >= 15 {
		statement += " STRATEGY file_copy"
	}
	_, err := p.admin.Exec(ctx, statement)
	return err
}

func (p *postgres) drop(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := p.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
	return err
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
