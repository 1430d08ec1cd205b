// Package postgres opens the pool and runs transactions and migrations. It distinguishes errors that mean
// that PostgreSQL did not do its work from errors in the work.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// Limits of one connection. The client's own deadlines notice a hung server. These limits stop work whose
// caller is gone.
const (
	connectTimeout   = 3 * time.Second
	statementTimeout = "10s"
	// A replica that hangs inside a transaction would hold its locks, that of the ledger's head among them,
	// and block all others.
	idleInTransactionTimeout = "5s"
	// Connections are replaced, so that they reach the new primary after a failover: pgx looks for the
	// primary only when it connects.
	connLifetime = 15 * time.Minute
	rollbackTime = 3 * time.Second
)

// Config says how to reach PostgreSQL.
type Config struct {
	// URL is a connection string in a form that libpq accepts; it may name several hosts.
	URL string
	// MaxConns bounds the pool. Zero means pgx's default.
	MaxConns int
	// Name is the application_name of these connections if URL has none. "" means latchkey.
	Name string
	// Pooler is the result of FindPooler for URL.
	Pooler Pooler
	// Tracer sees every query. Optional.
	Tracer pgx.QueryTracer
}

// Open makes a pool, which connects when it is first used. Its error is about the URL and contains no password.
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	c, err := newConnector(cfg.URL, cmp.Or(cfg.Name, "latchkey"), map[string]string{
		"statement_timeout": statementTimeout, "idle_in_transaction_session_timeout": idleInTransactionTimeout,
		// Every statement assumes this level. A role or a database may have another default. Under a stricter
		// one, statements that conflict fail (40001) instead of waiting for each other.
		"default_transaction_isolation": "read committed",
	})
	if err != nil {
		return nil, err
	}
	parsed := c.config
	if cfg.MaxConns > 0 {
		parsed.MaxConns = int32(min(cfg.MaxConns, 1<<15))
	}
	if cfg.Pooler == TransactionPooler {
		c.settings = nil // they would also apply to the next client
		// A statement that was prepared by name is missing on the next connection; pgbouncer handles such
		// statements since 1.21.
		if parsed.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
			parsed.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
	}
	parsed.AfterConnect = c.prepare
	parsed.MaxConnLifetime = connLifetime
	parsed.MaxConnLifetimeJitter = connLifetime / 5
	parsed.MaxConnIdleTime = 5 * time.Minute
	parsed.HealthCheckPeriod = 15 * time.Second
	parsed.ConnConfig.Tracer = cfg.Tracer
	lookForPrimary(&parsed.ConnConfig.Config)
	leaving := &leaving{closed: parsed.ConnConfig.OnPgError}
	parsed.ConnConfig.OnPgError = leaving.onError
	pool, err := pgxpool.NewWithConfig(ctx, parsed)
	if err != nil {
		return nil, err
	}
	leaving.pool.Store(pool)
	return pool, nil
}

func setDefault(params map[string]string, name, value string) {
	if params[name] == "" {
		params[name] = value
	}
}

// InTx runs fn in a transaction and commits if it returns nil. If the answer to the commit is lost, the error
// says so, and the outcome is unknown: callers must not report success.
func InTx(ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// The locks must be freed even if the caller is gone. After a commit this does nothing.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		_ = tx.Rollback(clean)
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// IsUnavailable reports whether err means that PostgreSQL did not do its work, and not that the work was wrong: it
// cannot be reached, did not answer in time, or is shutting down, starting, full or read-only.
func IsUnavailable(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "28", "3D", "40", "53", "57", "58": // connection, login, database, rollback, resources, operator, system
			return true
		}
		// Read-only after a failover; idle in transaction; lock not available; a reference to a row that was deleted
		// meanwhile, such as the account: the same call again finds that out by itself.
		return pg.Code == readOnly || pg.Code == "25P03" || pg.Code == "55P03" || pg.Code == "23503"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, puddle.ErrClosedPool)
}

// Weakness returns who other than PostgreSQL can read or answer the data that url sends to another machine, or "" if
// nobody can. password is the password that is sent there, or "" if there is none.
func Weakness(url string) (weakness, password string) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return "", ""
	}
	attempts := append([]*pgconn.FallbackConfig{{Host: cfg.ConnConfig.Host, TLSConfig: cfg.ConnConfig.TLSConfig}}, cfg.ConnConfig.Fallbacks...)
	for _, one := range attempts {
		if strings.HasPrefix(one.Host, "/") || strings.HasPrefix(one.Host, "@") || hosts.IsLoopback(one.Host) {
			continue
		}
		password = cfg.ConnConfig.Password
		switch {
		case one.TLSConfig == nil:
			return "may go to another machine in plaintext: somebody in between can read everything that is stored. Set sslmode=verify-full", password
		case one.TLSConfig.InsecureSkipVerify && one.TLSConfig.VerifyPeerCertificate == nil:
			weakness = "does not verify the server: somebody in between can pose as PostgreSQL. Set sslmode=verify-full"
		}
	}
	return weakness, password
}

// UnfitError reports a server that answers but cannot be used. Waiting does not help.
type UnfitError struct{ Reason string }

// Error implements error.
func (e *UnfitError) Error() string { return "this PostgreSQL cannot be used: " + e.Reason }

// minVersion is PostgreSQL 14: CREATE OR REPLACE TRIGGER lets migrations run again.
const minVersion = 140000

// CheckServer checks that the server has what Latchkey needs. The error is an *UnfitError if waiting does not help.
func CheckServer(ctx context.Context, pool *pgxpool.Pool) error {
	var version int
	var encoding string
	var recovers bool
	err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery()").
		Scan(&version, &encoding, &recovers)
	if err != nil {
		return err
	}
	if version < minVersion {
		return &UnfitError{fmt.Sprintf("its version is %d, at least %d (PostgreSQL 14) is needed", version, minVersion)}
	}
	if encoding != "UTF8" {
		return &UnfitError{fmt.Sprintf("the database's encoding is %s, UTF8 is needed", encoding)}
	}
	if recovers && !severalHosts(&pool.Config().ConnConfig.Config) {
		return &UnfitError{standby}
	}
	return nil
}
