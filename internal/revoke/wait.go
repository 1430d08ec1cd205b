package revoke

import (
	"context"
	"fmt"

	"github.com/latchkey-auth/latchkey/internal/panics"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// WaitFinal waits until the row at position, which another call has committed, is final. If the caller is gone the wait
// continues, and the error says that the outcome is not known.
func (r *Revoker) WaitFinal(ctx context.Context, position int64) error {
	_, err := detached(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.waitFinal(ctx, position) })
	return err
}

// RefuseEnded refuses a session that the ledger has ended, when that is final. The call that ended it may be this very
// one, sent before, and may still be waiting.
func (r *Revoker) RefuseEnded(ctx context.Context) error {
	head, err := r.Head(ctx, r.cfg.Pool)
	if err != nil {
		return err
	}
	if err := r.WaitFinal(ctx, head.Position); err != nil {
		return err
	}
	return refusal.SessionEnded()
}

// waitFinal waits until the row at position, which is committed, is final. If the fact was there already, position is
// the head that was read with it, because the call that made it may still be waiting.
func (r *Revoker) waitFinal(ctx context.Context, position int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalTime)
	defer cancel()
	if err := r.cfg.Ledger.Wait(ctx, position); err != nil {
		return fmt.Errorf("make the revocation final: %w", err)
	}
	return nil
}

// detached runs work to its end, and returns early if ctx ends. The result comes through a channel. If work wrote it to
// a variable of the caller, it would still write to it after an early return.
func detached[T any](ctx context.Context, work func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() { done <- o }()
		defer panics.Catch(&o.err)
		o.result, o.err = work(context.WithoutCancel(ctx))
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("the revocation goes on, and may not be final yet: %w", ctx.Err())
	}
}
