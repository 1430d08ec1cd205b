package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connector makes connections without startup parameters: poolers refuse most of them (pgbouncer: "unsupported startup
// parameter"). A statement after connecting makes the settings of Latchkey and the URL, one round trip for each
// connection.
type connector struct {
	config   *pgxpool.Config
	settings map[string]string
}

// newConnector reads url. defaults are settings for which url has no value.
func newConnector(url, name string, defaults map[string]string) (*connector, error) {
	parsed, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c := &connector{config: parsed, settings: map[string]string{}}
	maps.Copy(c.settings, defaults)
	params := parsed.ConnConfig.RuntimeParams
	for _, param := range slices.Collect(maps.Keys(params)) {
		switch param {
		case "application_name": // every pooler accepts it
		case "options", "replication": // no statement can set them
		default:
			if params[param] != "" {
				c.settings[param] = params[param]
			}
			delete(params, param)
		}
	}
	setDefault(params, "application_name", name)
	parsed.ConnConfig.ConnectTimeout = connectTimeout
	return c, nil
}

// prepare sets up a new connection.
func (c *connector) prepare(ctx context.Context, conn *pgx.Conn) error {
	// In the modes exec and simple_protocol pgx does not ask the server for the types of arguments.
	conn.TypeMap().RegisterDefaultPgType(uuid.UUID{}, "uuid")
	conn.TypeMap().RegisterDefaultPgType([]uuid.UUID{}, "_uuid")
	if len(c.settings) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(c.settings))
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = c.settings[name]
	}
	_, err := conn.Exec(ctx, "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value)", pgx.QueryExecModeExec, names, values)
	if err != nil {
		return fmt.Errorf("set %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

func (c *connector) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, c.config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // it lacks its settings
		return nil, err
	}
	return conn, nil
}

// Connect makes one connection outside a pool. name is its application_name in PostgreSQL. Only the role and
// the URL set limits for it.
func Connect(ctx context.Context, url, name string) (*pgx.Conn, error) {
	c, err := newConnector(url, name, nil)
	if err != nil {
		return nil, err
	}
	return c.connect(ctx)
}

// Pooler is the kind of pooler between Latchkey and PostgreSQL.
type Pooler string

// There is no pooler; or one in session mode, which gives a client one connection as long as it is connected, and needs
// no special treatment; or one in transaction mode, which can give it another connection for each transaction. Then
// settings, locks and LISTEN last no longer than a transaction.
const (
	NoPooler          Pooler = ""
	SessionPooler     Pooler = "session"
	TransactionPooler Pooler = "transaction"
)

// probeTime is how long the second connection may take: in session mode it waits for ever if the first has
// the only connection of the pool.
const probeTime = 2 * time.Second

// FindPooler uses two connections to find out whether there is a pooler. A pooler tells its clients process
// ids that are not those of the server. One in transaction mode also gives a second client the server process
// that the first one had, or gives the first client another process.
func FindPooler(ctx context.Context, url string) (Pooler, error) {
	first, err := Connect(ctx, url, "latchkey probe")
	if err != nil {
		return NoPooler, err
	}
	defer first.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	pid, err := backend(ctx, first)
	if err != nil || pid == first.PgConn().PID() {
		return NoPooler, err
	}
	for range 3 { // the pooler may have other clients
		found, err := sharesBackend(ctx, url, first, pid)
		if err != nil || found {
			return TransactionPooler, err
		}
	}
	return SessionPooler, nil
}

func sharesBackend(ctx context.Context, url string, first *pgx.Conn, pid uint32) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	second, err := Connect(waiting, url, "latchkey probe")
	if err != nil {
		return false, orPatience(ctx, waiting, err)
	}
	defer second.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	tx, err := second.Begin(waiting)
	if err != nil {
		return false, orPatience(ctx, waiting, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	held, err := backend(waiting, tx)
	if err != nil {
		return false, orPatience(ctx, waiting, err)
	}
	again, err := backend(ctx, first)
	return held == pid || again != pid, err
}

// orPatience returns nil if the second connection did not come in time: that is a result and not an error.
func orPatience(ctx, waiting context.Context, err error) error {
	if ctx.Err() != nil || waiting.Err() == nil {
		return err
	}
	return nil
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func backend(ctx context.Context, conn queryer) (pid uint32, err error) {
	// The simple protocol sends one message: through a pooler, each message of the extended protocol might
	// reach another process.
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid, err
}

// errTransactionPooler is for a URL that must lead to PostgreSQL itself.
var errTransactionPooler = &UnfitError{"a pooler in transaction mode (pgbouncer, say) is between Latchkey and the server, and locks and notices " +
	"do not work through it: set LATCHKEY_DATABASE_DIRECT_URL to the server's own address, or to a database of the pooler in session mode"}

// RequireSession returns an *UnfitError if url leads through a pooler in transaction mode.
func RequireSession(ctx context.Context, url string) (Pooler, error) {
	found, err := FindPooler(ctx, url)
	if err == nil && found == TransactionPooler {
		err = errTransactionPooler
	}
	return found, err
}

// CheckTransactionPooler returns an *UnfitError if Latchkey relies on a setting for the whole session, which is
// impossible through a pooler in transaction mode. warning is SQL with limits that the role should have, because
// Latchkey cannot set them.
func CheckTransactionPooler(ctx context.Context, url string) (warning string, err error) {
	c, err := newConnector(url, "latchkey probe", nil)
	if err != nil {
		return "", err
	}
	if len(c.settings) > 0 {
		names := strings.Join(slices.Sorted(maps.Keys(c.settings)), ", ")
		return "", &UnfitError{names + " in the URL cannot be set through a pooler in transaction mode: use ALTER ROLE … SET instead"}
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	var role, isolation, idle, statement string
	err = conn.QueryRow(ctx, `SELECT quote_ident(current_user), current_setting('default_transaction_isolation'),
		current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')`, pgx.QueryExecModeSimpleProtocol).
		Scan(&role, &isolation, &idle, &statement)
	if err != nil {
		return "", err
	}
	if isolation != "read committed" {
		return "", &UnfitError{fmt.Sprintf("default_transaction_isolation is %q, and through a pooler in transaction mode Latchkey cannot set it: "+
			"use ALTER ROLE %s SET default_transaction_isolation = 'read committed'", isolation, role)}
	}
	if idle == "0" || statement == "0" {
		return fmt.Sprintf("ALTER ROLE %s SET idle_in_transaction_session_timeout = '%s'; ALTER ROLE %s SET statement_timeout = '%s'", role, idleInTransactionTimeout, role, statementTimeout), nil
	}
	return "", nil
}

// Hopeless returns why waiting cannot help after a failed connection, or "" if it may help.
func Hopeless(err error) string {
	if unfit, ok := errors.AsType[*UnfitError](err); ok {
		return unfit.Reason
	}
	if reason := hopelessCode(err); reason != "" {
		return reason
	}
	return HopelessTLS(err)
}
