package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// revocationMargin is how much longer than what it refuses a revocation is kept:
	// room for clocks that differ.
	revocationMargin = time.Hour
)

// Logout implements latchkey.v1.AuthService.
func (s *Server) Logout(ctx context.Context, req *latchkeyv1.LogoutRequest) (*latchkeyv1.LogoutResponse, error) {
	presented, err := s.openSession(ctx, req.GetRefreshToken())
	var refused *refusal
	if errors.As(err, &refused) && refused.reason == latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED {
		return &latchkeyv1.LogoutResponse{}, nil // logged out before
	}
	if err != nil {
		return nil, err
	}
	if err := s.endSession(ctx, presented.Session.UserID, presented.Session.ID, auditLoggedOut); err != nil {
		return nil, err
	}
	return &latchkeyv1.LogoutResponse{}, nil
}

// endSession revokes one session: first in the ledger, which decides, then in
// Redis. It goes on when the caller hangs up, because a revocation that was asked
// for and half done helps nobody.
func (s *Server) endSession(ctx context.Context, userID, sessionID uuid.UUID, kind auditKind) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	err := postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		c := callFrom(ctx)
		_, err := s.queries.AppendSessionRevocations(ctx, tx, db.AppendSessionRevocationsParams{
			SessionIds: []uuid.UUID{sessionID}, UserIds: []uuid.UUID{userID}, KeepUntil: []time.Time{s.keepRevocationUntil()},
			Kinds: []string{string(kind)}, Addresses: []string{addressText(c)}, TraceIds: []string{c.traceID}, Now: s.cfg.Now(),
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	s.dropSession(ctx, sessionID)
	return nil
}

// keepRevocationUntil is when the longest session that exists now has ended.
func (s *Server) keepRevocationUntil() time.Time {
	return s.cfg.Now().Add(s.cfg.SessionMaxTTL + revocationMargin)
}
