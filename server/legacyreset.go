package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// findLegacyReset is the account of a reset token of an existing backend, which lives
// while its key in Redis does.
func (s *Server) findLegacyReset(ctx context.Context, resetToken string) (db.User, error) {
	none := db.User{}
	if s.cfg.Legacy == nil {
		return none, errResetTokenInvalid()
	}
	if until := s.cfg.Legacy.Tokens.AcceptUntil(); !until.IsZero() && !s.cfg.Now().Before(until) {
		return none, errResetTokenInvalid()
	}
	userID, ok, err := s.cfg.Legacy.Store.FindReset(ctx, resetToken)
	if err != nil {
		return none, fmt.Errorf("look the old reset token up: %w", err)
	}
	if !ok {
		return none, errResetTokenInvalid()
	}
	return s.legacyResetAccount(ctx, s.cfg.Pool, userID, resetToken)
}

func (s *Server) legacyResetAccount(ctx context.Context, on db.DBTX, userID uuid.UUID, resetToken string) (db.User, error) {
	user, err := s.queries.FindLegacyReset(ctx, on, db.FindLegacyResetParams{UserID: userID, TokenHash: hashResetToken(resetToken)})
	if errors.Is(err, pgx.ErrNoRows) {
		return user, errResetTokenInvalid()
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
func (s *Server) spendLegacyReset(ctx context.Context, tx pgx.Tx, userID uuid.UUID, resetToken string) error {
	if _, err := s.legacyResetAccount(ctx, tx, userID, resetToken); err != nil {
		return err
	}
	spent, err := s.queries.SpendLegacyToken(ctx, tx, db.SpendLegacyTokenParams{
		TokenHash: hashResetToken(resetToken), Kind: legacyResetKind, UserID: userID, SpentAt: s.cfg.Now(), KeepUntil: forGood(),
	})
	if err != nil {
		return fmt.Errorf("spend the old reset token: %w", err)
	}
	if spent == 0 {
		return errResetTokenInvalid()
	}
	return nil
}

// forgetLegacyReset keeps the token's own backend from accepting it again. Here it is
// spent either way, so a failure is only logged.
func (s *Server) forgetLegacyReset(ctx context.Context, resetToken string) {
	if err := s.cfg.Legacy.Store.ForgetReset(ctx, resetToken); err != nil {
		s.log.WarnContext(ctx, "spent reset token not deleted, its backend accepts it until it expires", "trace_id", callFrom(ctx).traceID, "call_id", callFrom(ctx).id, "error", err)
	}
}
