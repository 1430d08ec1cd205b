package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// migrateLock is the key of the advisory lock that lets one replica migrate at a
// time: "latchkey" in ASCII.
const migrateLock = 0x6c617463686b6579

// lockPoll is how often a replica that waits for its turn asks again. It must not
// wait inside PostgreSQL: CREATE INDEX CONCURRENTLY waits for every snapshot older
// than itself, and a waiting query holds one.
const lockPoll = 100 * time.Millisecond

// MigrationStatus is one migration and whether the database has it.
type MigrationStatus struct {
	Name    string
	Applied bool
}

// Migrations runs the goose migrations of FS on one database, one replica at a
// time.
type Migrations struct {
	// URL is a connection string as libpq takes it.
	URL string
	// FS holds the migrations at its root.
	FS fs.FS
}

// Up applies what is missing and returns the names of what it applied. also runs
// under the same lock, after the migrations; nil: nothing.
func (m Migrations) Up(ctx context.Context, also func(context.Context) error) ([]string, error) {
	var applied []string
	err := m.locked(ctx, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, result := range results {
			applied = append(applied, result.Source.Path)
		}
		if err != nil || also == nil {
			return err
		}
		return also(ctx)
	})
	return applied, err
}

// Down takes back the newest migration and returns its name, or "" when there is
// none.
func (m Migrations) Down(ctx context.Context) (string, error) {
	var name string
	err := m.locked(ctx, func(p *goose.Provider) error {
		result, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		if result != nil {
			name = result.Source.Path
		}
		return err
	})
	return name, err
}

// Status lists all migrations in their order.
func (m Migrations) Status(ctx context.Context) ([]MigrationStatus, error) {
	var list []MigrationStatus
	err := m.provide(func(p *goose.Provider) error {
		states, err := p.Status(ctx)
		for _, s := range states {
			list = append(list, MigrationStatus{s.Source.Path, s.State == goose.StateApplied})
		}
		return err
	})
	return list, err
}

func (m Migrations) provide(fn func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(m.URL)
	if err != nil {
		return err
	}
	cfg.ConnectTimeout = connectTimeout
	// A migration that cannot have its lock must not make the whole service queue
	// up behind it.
	setDefault(cfg.RuntimeParams, "lock_timeout", "10s")
	setDefault(cfg.RuntimeParams, "application_name", "latchkey migrate")
	db := stdlib.OpenDB(*cfg)
	defer db.Close() //nolint:errcheck // nothing was left unsaid on these connections
	provider, err := goose.NewProvider(goose.DialectPostgres, db, m.FS)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return fn(provider)
}

func (m Migrations) locked(ctx context.Context, fn func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(m.URL)
	if err != nil {
		return err
	}
	cfg.ConnectTimeout = connectTimeout
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	// Closing the connection is what frees the lock, also when ctx is over.
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server frees the lock either way
	for {
		var mine bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrateLock)).Scan(&mine); err != nil {
			return fmt.Errorf("migration lock: %w", err)
		}
		if mine {
			return m.provide(fn)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migration lock: another process has held it all the time: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
