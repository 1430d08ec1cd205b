package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// migrateLock is the key of the advisory lock that lets one replica migrate at a time: "latchkey" in ASCII.
const migrateLock = 0x6c617463686b6579

// statementLock is held by the connection on which the migrations run. If a process is killed, the server still
// finishes its current statement, which may be the build of an index. No other process continues before that.
const statementLock = migrateLock + 1

// defaultLockTimeout is short: while a migration waits for its lock, the queries of the whole service wait behind it.
const defaultLockTimeout = 10 * time.Second

// lockPoll is how often a waiting replica tries to get its turn. It must not wait inside PostgreSQL: CREATE
// INDEX CONCURRENTLY waits for every snapshot that is older than itself, and a waiting query holds one.
const lockPoll = 100 * time.Millisecond

// MigrationStatus is one migration and whether the database has it.
type MigrationStatus struct {
	Name    string
	Applied bool
}

// Migrations runs the goose migrations of FS on one database, one replica at a time.
type Migrations struct {
	// URL is a connection string in a form that libpq accepts.
	URL string
	// FS holds the migrations at its root.
	FS fs.FS
	// LockTimeout is how long a statement waits for a lock, and other queries behind it. Zero means the value in URL,
	// or 10 s.
	LockTimeout time.Duration
	// Each is called by Up for each missing migration in order. It calls run, and again if that failed. Nil
	// means that each runs once.
	Each func(ctx context.Context, name string, run func() error) error
	// CheckUp is called by Up and Status before anything is read or written, and CheckDown by Down. If it
	// returns an error, they return that. Nil means no check.
	CheckUp, CheckDown func(ctx context.Context, conn *pgx.Conn) error
	// BeforeDown runs before a migration of this version is taken back. Nil: nothing.
	BeforeDown func(ctx context.Context, conn *pgx.Conn, version int64) error
	// BeforeFirst runs before the first migration is taken back. Nil: nothing.
	BeforeFirst func(ctx context.Context, conn *pgx.Conn) error
}

// Up applies the missing migrations and returns their names. also, if not nil, runs after them under the same lock.
func (m Migrations) Up(ctx context.Context, also func(context.Context) error) ([]string, error) {
	var applied []string
	err := m.locked(ctx, m.CheckUp, func(p *goose.Provider, _ *pgx.Conn) error {
		if m.Each != nil {
			if err := m.eachPending(ctx, p, &applied); err != nil {
				return err
			}
		}
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

// eachPending calls m.Each for each missing migration.
func (m Migrations) eachPending(ctx context.Context, p *goose.Provider, applied *[]string) error {
	states, err := p.Status(ctx)
	if err != nil {
		return err
	}
	for _, state := range states {
		if state.State == goose.StateApplied {
			continue
		}
		err := m.Each(ctx, state.Source.Path, func() error {
			result, err := p.UpByOne(ctx)
			if err == nil {
				*applied = append(*applied, result.Source.Path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Down takes back the newest migration and returns its name, or "" if there is none.
func (m Migrations) Down(ctx context.Context) (string, error) {
	var name string
	err := m.locked(ctx, m.CheckDown, func(p *goose.Provider, conn *pgx.Conn) error {
		var recorded bool
		if err := conn.QueryRow(ctx, "SELECT to_regclass('goose_db_version') IS NOT NULL").Scan(&recorded); err != nil || !recorded {
			return err
		}
		version, err := p.GetDBVersion(ctx)
		if err != nil {
			return err
		}
		if m.BeforeDown != nil && version > 0 {
			if err := m.BeforeDown(ctx, conn, version); err != nil {
				return err
			}
		}
		sources := p.ListSources()
		first := m.BeforeFirst != nil && len(sources) > 0 && version == sources[0].Version
		if first {
			if err := m.BeforeFirst(ctx, conn); err != nil {
				return err
			}
		}
		result, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		if result != nil {
			name = result.Source.Path
		}
		if err == nil && first {
			_, err = conn.Exec(ctx, "DROP TABLE goose_db_version")
		}
		return err
	})
	return name, err
}

// Status lists all migrations in their order.
func (m Migrations) Status(ctx context.Context) ([]MigrationStatus, error) {
	if m.CheckUp != nil {
		if err := m.check(ctx); err != nil {
			return nil, err
		}
	}
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

// connector sets its own limits: a role or a database may have limits for its services, and filling a column takes
// longer the more rows there are.
func (m Migrations) connector() (*connector, error) {
	c, err := newConnector(m.URL, "latchkey migrate", map[string]string{
		"lock_timeout": milliseconds(defaultLockTimeout), "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"default_transaction_isolation": "read committed",
	})
	if err == nil && m.LockTimeout > 0 {
		c.settings["lock_timeout"] = milliseconds(m.LockTimeout)
	}
	return c, err
}

func (m Migrations) provide(fn func(*goose.Provider) error) error {
	c, err := m.connector()
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*c.config.ConnConfig, stdlib.OptionAfterConnect(c.prepare))
	defer db.Close() //nolint:errcheck // all work on these connections is done
	provider, err := goose.NewProvider(goose.DialectPostgres, db, m.FS, goose.WithSessionLocker(sessionLock{}))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return fn(provider)
}

func (m Migrations) check(ctx context.Context) error {
	conn, err := Connect(ctx, m.URL, "latchkey migrate")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	return m.CheckUp(ctx, conn)
}

// locked runs check and then fn on one connection, while nobody else migrates.
func (m Migrations) locked(ctx context.Context, check func(context.Context, *pgx.Conn) error, fn func(*goose.Provider, *pgx.Conn) error) error {
	// Through a pooler in transaction mode the lock would belong to a connection that other clients use next,
	// and would never be free again.
	if _, err := RequireSession(ctx, m.URL); err != nil {
		return err
	}
	conn, err := Connect(ctx, m.URL, "latchkey migrate")
	if err != nil {
		return err
	}
	// Closing the connection frees the lock, even if ctx has ended.
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server frees the lock either way
	err = tryUntil(ctx, func() (mine bool, err error) {
		err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrateLock)).Scan(&mine)
		return mine, err
	})
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(ctx, conn); err != nil {
			return err
		}
	}
	return m.provide(func(p *goose.Provider) error { return fn(p, conn) })
}

func tryUntil(ctx context.Context, try func() (bool, error)) error {
	for {
		mine, err := try()
		if err != nil {
			return fmt.Errorf("migration lock: %w", err)
		}
		if mine {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migration lock: another process holds it: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// sessionLock takes statementLock on the connection that goose runs migrations on.
type sessionLock struct{}

// SessionLock implements goose's lock.SessionLocker.
func (sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	return tryUntil(ctx, func() (mine bool, err error) {
		err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(statementLock)).Scan(&mine)
		return mine, err
	})
}

// SessionUnlock implements goose's lock.SessionLocker. If the connection broke, there is nothing to unlock:
// the lock ended with it.
func (sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, _ = conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(statementLock))
	return nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
