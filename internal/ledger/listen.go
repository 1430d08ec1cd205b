package ledger

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"
)

// channel is where every append sends a notice.
const channel = "latchkey_ledger"

// connect opens a connection outside the pool: a renewal must not wait until the pool has a free one.
func (l *Ledger) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	config := cmp.Or(l.cfg.Direct, l.cfg.Pool).Config()
	config.ConnConfig.Tracer = nil // its statements belong to no call
	config.ConnConfig.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if config.AfterConnect != nil {
		err = config.AfterConnect(ctx, conn)
	}
	if err == nil {
		// The row's applied position needs no flush: if PostgreSQL loses it, revokers only wait longer. Joining
		// needs one, and uses another connection.
		_, err = conn.Exec(ctx, "SET synchronous_commit = off", pgx.QueryExecModeSimpleProtocol)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // it lacks its settings
		return nil, err
	}
	return conn, nil
}

// listen wakes the tail whenever a row was committed.
func (l *Ledger) listen(ctx context.Context) error {
	conn, err := l.connect(ctx, "latchkey listen")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // only read from
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	l.hangUp.Store(&hangUp)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	l.listens.Store(true)
	defer l.listens.Store(false)
	for {
		l.wake() // at the beginning too: rows may have come before LISTEN
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// relisten makes listen open a new connection.
func (l *Ledger) relisten(why error) {
	if hangUp := l.hangUp.Load(); hangUp != nil {
		(*hangUp)(why)
	}
}
