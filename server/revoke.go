package server

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// revokeTime bounds a change that revokes and goes on although its caller is gone.
	revokeTime = 10 * time.Second
	// finalTime bounds the wait until it is final: the longest lease ends it before.
	finalTime = ledger.MaxLease + 10*time.Second
)

// revoke makes a change that appends to the ledger, in one transaction, and returns
// nil once the row at the position that change returned is final: no replica accepts
// what it refuses. A position of 0 means that nothing was appended.
//
// It goes on when the caller hangs up or its deadline passes, because a revocation
// that was asked for and half done helps nobody; the caller's error then says that
// the outcome is not known.
func (s *Server) revoke(ctx context.Context, change func(ctx context.Context, tx pgx.Tx) (position int64, err error)) error {
	return detached(ctx, func(ctx context.Context) error {
		var position int64
		working, cancel := context.WithTimeout(ctx, revokeTime)
		err := postgres.InTx(working, s.cfg.Pool, func(tx pgx.Tx) error {
			var err error
			position, err = change(working, tx)
			return err
		})
		cancel()
		if err != nil {
			return err
		}
		return s.final(ctx, position)
	})
}

// revokeUser is revoke for a change that ends the sessions of an account, all but
// except, and takes those out of the list. A userID of uuid.Nil means that the change has
// ended none: what is waited for is the end of others' calls.
func (s *Server) revokeUser(
	ctx context.Context, except uuid.UUID,
	change func(ctx context.Context, tx pgx.Tx) (userID uuid.UUID, position int64, err error),
) error {
	var userID uuid.UUID
	var position int64
	err := s.revoke(ctx, func(ctx context.Context, tx pgx.Tx) (int64, error) {
		var err error
		userID, position, err = change(ctx, tx)
		return position, err
	})
	if err != nil {
		return err // the change may still be under way, and both be written to
	}
	if userID != uuid.Nil {
		s.tidy(ctx, s.unlisting(userID, except, position))()
	}
	return nil
}

// endSession revokes one session: first in the ledger, which decides, then in Redis,
// and returns nil once that is final.
func (s *Server) endSession(ctx context.Context, userID, sessionID uuid.UUID, kind audit.Kind) error {
	c := caller.From(ctx)
	now := s.cfg.Now()
	return detached(ctx, func(ctx context.Context) error {
		position, err := s.cfg.Ledger.Append(ctx, ledger.SessionEnd{
			SessionID: sessionID, UserID: userID,
			Time: now, Kind: string(kind), Address: c.AddressText(), TraceID: c.TraceID, CallID: c.CallID,
		})
		if err != nil {
			return fmt.Errorf("end the session: %w", err)
		}
		dropped := s.tidy(ctx, s.dropping(userID, sessionID))
		err = s.final(ctx, position)
		dropped()
		return err
	})
}

// ledgerHead is the position of the newest row: at or past everything that is committed.
func (s *Server) ledgerHead(ctx context.Context, on db.DBTX) (int64, error) {
	head, err := s.queries.LedgerHead(ctx, on)
	if err != nil {
		return 0, fmt.Errorf("read the ledger's head: %w", err)
	}
	return head, nil
}

// final waits until the row at position, which is committed, is final. For a fact that
// was there already it is the head that was read with it: the call that made it may
// still be waiting.
func (s *Server) final(ctx context.Context, position int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalTime)
	defer cancel()
	if err := s.cfg.Ledger.Wait(ctx, position); err != nil {
		return fmt.Errorf("make the revocation final: %w", err)
	}
	return nil
}

// detached runs work to its end, and returns early when ctx ends.
func detached(ctx context.Context, work func(context.Context) error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		defer recovered(&err)
		err = work(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the revocation goes on, and may not be final yet: %w", ctx.Err())
	}
}
