package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// FindReset implements account.Older. The token of an older backend is valid while its key in Redis exists.
func (b *Backend) FindReset(ctx context.Context, resetToken string) (account.User, account.ResetSpending, error) {
	var none account.ResetSpending
	if !b.isAccepting() {
		return account.User{}, none, refusal.ResetTokenInvalid()
	}
	found, ok, err := b.cfg.Left.Store.FindReset(ctx, resetToken)
	if err != nil {
		return account.User{}, none, fmt.Errorf("look the old reset token up: %w", err)
	}
	if !ok {
		return account.User{}, none, refusal.ResetTokenInvalid()
	}
	row, err := b.resetAccount(ctx, b.cfg.Pool, found, resetToken)
	return account.FromRow(row), account.ResetSpending{
		InTx:       func(ctx context.Context, tx pgx.Tx) error { return b.spendReset(ctx, tx, found, resetToken) },
		Afterwards: func(ctx context.Context) { b.deleteReset(ctx, resetToken) },
	}, err
}

// Failures implements login.Older. It costs one round trip, and the flow needs one more for each counter that exists.
func (b *Backend) Failures(ctx context.Context, addresses ...string) ([]login.OlderFailures, error) {
	if !b.isAccepting() {
		return nil, nil
	}
	counters, err := b.cfg.Left.Store.Attempts(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	found := make([]login.OlderFailures, len(counters))
	for i, c := range counters {
		found[i] = login.OlderFailures{Address: c.Address, Count: c.Failures, Ends: c.Ends}
	}
	return found, nil
}

// DeleteFailures implements both hooks. If it fails, the counters are taken over again at the next login, so the error
// is only logged.
func (b *Backend) DeleteFailures(ctx context.Context, addresses ...string) {
	if !b.isAccepting() {
		return
	}
	if err := b.cfg.Left.Store.DeleteAttempts(ctx, addresses...); err != nil {
		c := caller.From(ctx)
		b.log.WarnContext(ctx, "old counter of failed logins not cleared, it expires", "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	}
}

func (b *Backend) resetAccount(ctx context.Context, on db.DBTX, found legacy.Reset, resetToken string) (db.User, error) {
	if !b.isAccepting() { // checked again after the hash, which may have taken long
		return db.User{}, refusal.ResetTokenInvalid()
	}
	user, err := b.queries.FindLegacyReset(ctx, on, db.FindLegacyResetParams{
		UserID: found.UserID, TokenHash: account.HashToken(resetToken), IsUndated: found.IsUndated,
		ResetLifeSeconds: b.cfg.Left.Store.ResetLife().Seconds(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return user, refusal.ResetTokenInvalid()
	}
	if err != nil {
		return user, fmt.Errorf("look the old reset token up: %w", err)
	}
	return user, nil
}

// spendReset spends the token of an account that is locked. It repeats the query from before the password was hashed,
// since another token of the account may have been spent meanwhile. The row is never deleted: there are few, and a
// backup of Redis with the token may be restored at any time.
func (b *Backend) spendReset(ctx context.Context, tx pgx.Tx, found legacy.Reset, resetToken string) error {
	if _, err := b.resetAccount(ctx, tx, found, resetToken); err != nil {
		return err
	}
	spent, err := b.queries.SpendLegacyToken(ctx, tx, db.SpendLegacyTokenParams{
		TokenHash: account.HashToken(resetToken), Kind: resetKind, UserID: found.UserID, SpentAt: b.cfg.Now(), KeepUntil: forGood(),
	})
	if err != nil {
		return fmt.Errorf("spend the old reset token: %w", err)
	}
	if spent == 0 {
		return refusal.ResetTokenInvalid()
	}
	return nil
}

// deleteReset prevents the older backend from accepting its token again. Here the token is spent in any case, so an
// error is only logged.
func (b *Backend) deleteReset(ctx context.Context, resetToken string) {
	if err := b.cfg.Left.Store.DeleteReset(ctx, resetToken); err != nil {
		b.log.WarnContext(ctx, "spent reset token not deleted, its backend accepts it until it expires", "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
	}
}
