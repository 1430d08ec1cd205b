package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// findLegacyReset is the account of a reset token of an existing backend, which lives
// while its key in Redis does.
func (s *Server) findLegacyReset(ctx context.Context, resetToken string) (db.User, legacy.Reset, error) {
	none := db.User{}
	if !s.honoursLegacy() {
		return none, legacy.Reset{}, refusal.ResetTokenInvalid()
	}
	found, ok, err := s.cfg.Legacy.Store.FindReset(ctx, resetToken)
	if err != nil {
		return none, legacy.Reset{}, fmt.Errorf("look the old reset token up: %w", err)
	}
	if !ok {
		return none, legacy.Reset{}, refusal.ResetTokenInvalid()
	}
	user, err := s.legacyResetAccount(ctx, s.cfg.Pool, found, resetToken)
	return user, found, err
}

func (s *Server) legacyResetAccount(ctx context.Context, on db.DBTX, found legacy.Reset, resetToken string) (db.User, error) {
	if !s.honoursLegacy() { // asked again after the hash, which may have taken its time
		return db.User{}, refusal.ResetTokenInvalid()
	}
	user, err := s.queries.FindLegacyReset(ctx, on, db.FindLegacyResetParams{
		UserID: found.UserID, TokenHash: hashResetToken(resetToken), IsUndated: found.IsUndated,
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
func (s *Server) spendLegacyReset(ctx context.Context, tx pgx.Tx, found legacy.Reset, resetToken string) error {
	if _, err := s.legacyResetAccount(ctx, tx, found, resetToken); err != nil {
		return err
	}
	spent, err := s.queries.SpendLegacyToken(ctx, tx, db.SpendLegacyTokenParams{
		TokenHash: hashResetToken(resetToken), Kind: legacyResetKind, UserID: found.UserID, SpentAt: s.cfg.Now(), KeepUntil: forGood(),
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
func (s *Server) forgetLegacyReset(ctx context.Context, resetToken string) {
	if err := s.cfg.Legacy.Store.ForgetReset(ctx, resetToken); err != nil {
		s.log.WarnContext(ctx, "spent reset token not deleted, its backend accepts it until it expires", "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
	}
}
