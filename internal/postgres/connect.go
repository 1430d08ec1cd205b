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

// connector makes connections that ask for no parameter when they connect: poolers refuse most (pgbouncer:
// "unsupported startup parameter"). What Latchkey and the URL set is set by a statement afterwards, one round
// trip for each connection.
type connector struct {
	config   *pgxpool.Config
	settings map[string]string
}

// newConnector reads url. defaults hold where it says nothing.
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
		case "application_name": // every pooler takes it
		case "options", "replication": // not to be had by a statement
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

// prepare is for a connection that was made just now.
func (c *connector) prepare(ctx context.Context, conn *pgx.Conn) error {
	// In the modes exec and simple_protocol pgx asks nobody for the types of arguments.
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
		_ = conn.Close(context.WithoutCancel(ctx)) // of no use as it is
		return nil, err
	}
	return conn, nil
}

// Connect makes one connection beside those of a pool, which PostgreSQL knows by name. It has no limits but
// those of the role and the URL.
func Connect(ctx context.Context, url, name string) (*pgx.Conn, error) {
	c, err := newConnector(url, name, nil)
	if err != nil {
		return nil, err
	}
	return c.connect(ctx)
}

// Pooler is what stands between Latchkey and PostgreSQL.
type Pooler string

// What there may be: nothing; a pooler that gives a client one connection for as long as it is connected
// (session mode), which is as good as nothing; or one that gives it another for each transaction, where
// nothing that is set, locked or listened for outlasts one.
const (
	NoPooler          Pooler = ""
	SessionPooler     Pooler = "session"
	TransactionPooler Pooler = "transaction"
)

// probeTime is what the second connection gets: in session mode it waits for ever where the first has the
// pool's only one.
const probeTime = 2 * time.Second

// FindPooler looks for a pooler with two connections. A pooler gives its clients process ids of its own. One
// in transaction mode also gives a second client the server process that the first one had, or gives the
// first client another one.
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

// orPatience: that the second connection does not come is an answer.
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
	// By the simple protocol: the connection may have another process for each message that prepares.
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid, err
}

// errTransactionPooler is said of a URL that must lead to PostgreSQL itself.
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

// CheckTransactionPooler returns an *UnfitError if something that Latchkey relies on has to be set for a
// session, which a pooler in transaction mode cannot; and what is left to the role's settings and better not
// left open.
func CheckTransactionPooler(ctx context.Context, url string) (warning string, err error) {
	c, err := newConnector(url, "latchkey probe", nil)
	if err != nil {
		return "", err
	}
	if len(c.settings) > 0 {
		names := strings.Join(slices.Sorted(maps.Keys(c.settings)), ", ")
		return "", &UnfitError{names + " in the URL cannot be set through a pooler in transaction mode: say ALTER ROLE … SET instead"}
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
			"say ALTER ROLE %s SET default_transaction_isolation = 'read committed'", isolation, role)}
	}
	if idle == "0" || statement == "0" {
		return fmt.Sprintf("ALTER ROLE %s SET idle_in_transaction_session_timeout = '%s'; ALTER ROLE %s SET statement_timeout = '%s'", role, idleInTransactionTimeout, role, statementTimeout), nil
	}
	return "", nil
}

// Hopeless says why err is a failure to connect that no waiting mends, "" if it may be mended by that.
func Hopeless(err error) string {
	if unfit, ok := errors.AsType[*UnfitError](err); ok {
		return unfit.Reason
	}
	if reason := hopelessCode(err); reason != "" {
		return reason
	}
	return HopelessTLS(err)
}
