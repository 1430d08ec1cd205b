package ledger

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"
)

// channel is where every append is told.
const channel = "latchkey_ledger"

// connect opens a connection of this process's own: a lease must not wait for one of
// the pool's.
func (l *Ledger) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	config := cmp.Or(l.cfg.Direct, l.cfg.Pool).Config()
	config.ConnConfig.Tracer = nil // what follows the ledger is no call's doing
	config.ConnConfig.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if config.AfterConnect != nil {
		err = config.AfterConnect(ctx, conn)
	}
	if err == nil {
		// How far a replica has come needs no flush: should PostgreSQL lose it, revokers
		// wait for longer. Joining does, and does not go over this connection.
		_, err = conn.Exec(ctx, "SET synchronous_commit = off", pgx.QueryExecModeSimpleProtocol)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // of no use as it is
		return nil, err
	}
	return conn, nil
}

// listen has the tail look for rows whenever one was committed.
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
		l.poke() // also once at the beginning: rows came before
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// relisten has listen connect anew.
func (l *Ledger) relisten(why error) {
	if hangUp := l.hangUp.Load(); hangUp != nil {
		(*hangUp)(why)
	}
}
