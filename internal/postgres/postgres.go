// Package postgres opens the pool, runs transactions and migrations, and tells apart errors that say
// PostgreSQL did not do its work from errors about the work.
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

// Limits of one connection. A hung server is noticed by the client's own deadlines; these stop work whose
// caller is gone.
const (
	connectTimeout   = 3 * time.Second
	statementTimeout = "10s"
	// A replica that stalls inside a transaction would hold its locks, the ledger's head among them, for
	// everybody.
	idleInTransactionTimeout = "5s"
	// Connections are made anew, so that they find the primary after a failover: pgx looks for it only when
	// it connects.
	connLifetime = 15 * time.Minute
	rollbackTime = 3 * time.Second
)

// Config says how to reach PostgreSQL.
type Config struct {
	// URL is a connection string as libpq takes it; several hosts are fine.
	URL string
	// MaxConns bounds the pool. Zero: pgx's default.
	MaxConns int
	// Name is what PostgreSQL calls these connections by, where URL has no application_name. "": latchkey.
	Name string
	// Pooler is what FindPooler has found behind URL.
	Pooler Pooler
	// Tracer sees every query. Optional.
	Tracer pgx.QueryTracer
}

// Open makes a pool. It connects when it is used; its error is one of the URL and holds no password.
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	c, err := newConnector(cfg.URL, cmp.Or(cfg.Name, "latchkey"), map[string]string{
		"statement_timeout": statementTimeout, "idle_in_transaction_session_timeout": idleInTransactionTimeout,
		// Every statement was written for it: with another one, which a role or a database may have as its
		// default, those that meet fail (40001) instead of waiting for each other.
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
		c.settings = nil // they would be the next client's
		// A statement that was prepared by name is on another connection the next time; pgbouncer knows them
		// from 1.21 on.
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

// InTx runs fn in a transaction and commits when it returns nil. When the commit's answer is lost the error
// says so and the outcome is unknown: callers must not report success.
func InTx(ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// The caller may be gone; its locks must go all the same. After a commit this does nothing.
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

// IsUnavailable reports whether err says that PostgreSQL did not do its work, rather than that the work was
// wrong: it cannot be reached, did not answer in time, is shutting down, starting, full or read-only.
func IsUnavailable(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "28", "3D", "40", "53", "57", "58": // connection, login, database, rollback, resources, operator, system
			return true
		}
		// Read-only after a failover, idle in transaction, lock not to be had.
		return pg.Code == readOnly || pg.Code == "25P03" || pg.Code == "55P03"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, puddle.ErrClosedPool)
}

// Weakness says who else can read or answer what url sends to another machine, "" if nobody; and how the
// password of such a connection reads, "" if there is none.
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
			return "may go to another machine in plaintext: all that is stored can be read on the way. Set sslmode=verify-full", password
		case one.TLSConfig.InsecureSkipVerify && one.TLSConfig.VerifyPeerCertificate == nil:
			weakness = "does not check whose the server is: whoever is on the way can be it. Set sslmode=verify-full"
		}
	}
	return weakness, password
}

// UnfitError is a server that answers and cannot be used, however long one waits.
type UnfitError struct{ Reason string }

// Error implements error.
func (e *UnfitError) Error() string { return "this PostgreSQL cannot be used: " + e.Reason }

// minVersion is PostgreSQL 14: CREATE OR REPLACE TRIGGER lets migrations run again.
const minVersion = 140000

// CheckServer asks the server for what Latchkey needs of it. The error is an *UnfitError where waiting would
// not help.
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
