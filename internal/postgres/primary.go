package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// readOnly is the SQLSTATE of a write to a server that accepts none, and of latchkey_on_primary.
	readOnly   = "25006"
	resetPause = time.Second
)

// errReadOnlyServer means that a server answered and is not the primary.
var errReadOnlyServer = errors.New("the server takes no writes")

// lookForPrimary skips hosts that take no writes, even if the URL does not ask for that: the first of several
// hosts that answers may be a standby.
func lookForPrimary(cfg *pgconn.Config) {
	if severalHosts(cfg) && cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	validate := cfg.ValidateConnect
	if validate == nil {
		return
	}
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		err := validate(ctx, conn)
		if err != nil && (conn.ParameterStatus("in_hot_standby") == "on" || conn.ParameterStatus("default_transaction_read_only") == "on") {
			return fmt.Errorf("%w: %w", errReadOnlyServer, err)
		}
		return err
	}
}

func severalHosts(cfg *pgconn.Config) bool {
	return slices.ContainsFunc(cfg.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return other.Host != cfg.Host || other.Port != cfg.Port // otherwise it is the same one without TLS
	})
}

// leaving closes the connections to a server that is no longer the primary: pgx looks for the primary only
// when it connects.
type leaving struct {
	closed pgconn.PgErrorHandler // pgx's own
	pool   atomic.Pointer[pgxpool.Pool]
	last   atomic.Int64 // when all connections were closed, in milliseconds
}

// onError returns false if the connection must be closed. The other connections of the pool probably lead to the same
// server, so they are closed too, but only once a second: if there is no other server, every write fails.
func (l *leaving) onError(conn *pgconn.PgConn, err *pgconn.PgError) bool {
	if err.Code != readOnly {
		return l.closed(conn, err)
	}
	now := time.Now().UnixMilli() //nolint:forbidigo // a pause between two steps, by the machine's clock
	last := l.last.Load()
	if pool := l.pool.Load(); pool != nil && now-last >= resetPause.Milliseconds() && l.last.CompareAndSwap(last, now) {
		go pool.Reset()
	}
	return false
}

// IsReadOnly reports whether err means that the server is not the primary or takes no writes, or that this is
// true of all servers in the URL. The connection that returned it is closed.
func IsReadOnly(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == readOnly || errors.Is(err, errReadOnlyServer)
}
