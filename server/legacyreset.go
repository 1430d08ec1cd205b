package server

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

// FindReset implements account.Older. The token of an existing backend lives while its key in Redis does.
func (s *LegacyBackend) FindReset(ctx context.Context, resetToken string) (account.User, account.ResetSpending, error) {
	var none account.ResetSpending
	if !s.honoursLegacy() {
		return account.User{}, none, refusal.ResetTokenInvalid()
	}
	found, ok, err := s.cfg.Legacy.Store.FindReset(ctx, resetToken)
	if err != nil {
		return account.User{}, none, fmt.Errorf("look the old reset token up: %w", err)
	}
	if !ok {
		return account.User{}, none, refusal.ResetTokenInvalid()
	}
	row, err := s.legacyResetAccount(ctx, s.cfg.Pool, found, resetToken)
	return account.FromRow(row), account.ResetSpending{
		InTx:       func(ctx context.Context, tx pgx.Tx) error { return s.spendLegacyReset(ctx, tx, found, resetToken) },
		Afterwards: func(ctx context.Context) { s.forgetLegacyReset(ctx, resetToken) },
	}, err
}

// Failures implements login.Older. It costs one round trip, and the flow one more for each counter that there is.
func (s *LegacyBackend) Failures(ctx context.Context, addresses ...string) ([]login.OlderFailures, error) {
	if !s.honoursLegacy() {
		return nil, nil
	}
	counters, err := s.cfg.Legacy.Store.Attempts(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	found := make([]login.OlderFailures, len(counters))
	for i, c := range counters {
		found[i] = login.OlderFailures{Address: c.Address, Count: c.Failures, Ends: c.Ends}
	}
	return found, nil
}

// ForgetFailures implements both hooks. A failure leaves the counters to be carried again, so it is only logged.
func (s *LegacyBackend) ForgetFailures(ctx context.Context, addresses ...string) {
	if !s.honoursLegacy() {
		return
	}
	if err := s.cfg.Legacy.Store.ForgetAttempts(ctx, addresses...); err != nil {
		c := caller.From(ctx)
		s.log.WarnContext(ctx, "old counter of failed logins not cleared, it expires", "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	}
}

func (s *LegacyBackend) legacyResetAccount(ctx context.Context, on db.DBTX, found legacy.Reset, resetToken string) (db.User, error) {
	if !s.honoursLegacy() { // asked again after the hash, which may have taken its time
		return db.User{}, refusal.ResetTokenInvalid()
	}
	user, err := s.queries.FindLegacyReset(ctx, on, db.FindLegacyResetParams{
		UserID: found.UserID, TokenHash: account.HashResetToken(resetToken), IsUndated: found.IsUndated,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return user, refusal.ResetTokenInvalid()
	}
	if err != nil {
		return user, fmt.Errorf("look the old reset token up: %w", err)
	}
	return user, nil
}

// spendLegacyReset spends the token of an account that is locked. What was found before
// the password was hashed is asked again: another token of the account may have been
// spent meanwhile. The row stays for good: there are few, and Redis may be restored
// with the token at any time.
func (s *LegacyBackend) spendLegacyReset(ctx context.Context, tx pgx.Tx, found legacy.Reset, resetToken string) error {
	if _, err := s.legacyResetAccount(ctx, tx, found, resetToken); err != nil {
		return err
	}
	spent, err := s.queries.SpendLegacyToken(ctx, tx, db.SpendLegacyTokenParams{
		TokenHash: account.HashResetToken(resetToken), Kind: legacyResetKind, UserID: found.UserID, SpentAt: s.cfg.Now(), KeepUntil: forGood(),
	})
	if err != nil {
		return fmt.Errorf("spend the old reset token: %w", err)
	}
	if spent == 0 {
		return refusal.ResetTokenInvalid()
	}
	return nil
}

// forgetLegacyReset keeps the token's own backend from accepting it again. Here it is
// spent either way, so a failure is only logged.
func (s *LegacyBackend) forgetLegacyReset(ctx context.Context, resetToken string) {
	if err := s.cfg.Legacy.Store.ForgetReset(ctx, resetToken); err != nil {
		s.log.WarnContext(ctx, "spent reset token not deleted, its backend accepts it until it expires", "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
	}
}
