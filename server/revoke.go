package server

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// revoke makes a change that appends to the ledger, in one transaction, and returns
// nil once the row at the position that change returned is final: no replica accepts
// what it refuses. A position of 0 means that nothing was appended.
//
// It goes on when the caller hangs up or its deadline passes, because a revocation
// that was asked for and half done helps nobody; the caller's error then says that
// the outcome is not known.
func (s *Server) revoke(ctx context.Context, change func(ctx context.Context, tx pgx.Tx) (position int64, err error)) error {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- postgres.InTx(work, s.cfg.Pool, func(tx pgx.Tx) error {
			_, err := change(work, tx)
			return err
		})
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait until the revocation is final: %w", ctx.Err())
	}
}

// revokeTime bounds a revocation that goes on although its caller is gone.
const revokeTime = 15 * time.Second
