package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// Logout implements latchkey.v1.AuthService. A session that was ended before is one
// whose end may not be final yet: openSession has waited for it.
func (s *Server) Logout(ctx context.Context, req *latchkeyv1.LogoutRequest) (*latchkeyv1.LogoutResponse, error) {
	if s.isLegacyToken(req.GetRefreshToken()) {
		return s.logOutLegacy(ctx, req)
	}
	presented, err := s.openSession(ctx, req.GetRefreshToken())
	if refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED) && !req.GetAllSessions() {
		return &latchkeyv1.LogoutResponse{}, nil // logged out before
	}
	if err != nil {
		return nil, err
	}
	if req.GetAllSessions() {
		err = s.logOutAll(ctx, presented)
	} else {
		err = s.revoker.Session(ctx, audit.LoggedOut, presented.Session.UserID, presented.Session.ID)
	}
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.LogoutResponse{}, nil
}

// logOutAll ends all sessions of the account. Only a live session can speak for it:
// a thief whose session the owner has ended must not end the owner's. And only a live
// token for its session: one that was spent long ago is what thieves find in backups and
// logs, and is a reuse as it is in a refresh.
func (s *Server) logOutAll(ctx context.Context, presented *session.Presented) error {
	sess := presented.Session
	account, err := s.queries.FindUserForSession(ctx, s.cfg.Pool, db.FindUserForSessionParams{
		UserID: sess.UserID, SessionID: sess.ID, Ledger: sess.Ledger,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look the account up: %w", err)
	}
	if err != nil || account.Revoked || !account.User.IsActive {
		return s.revoker.RefuseEnded(ctx) // perhaps by this very call, sent before
	}
	switch err := s.cfg.Sessions.Live(presented, markOf(account)); {
	case errors.Is(err, session.ErrReused):
		return s.endReused(ctx, sess)
	case errors.Is(err, session.ErrLate):
		return refusal.RefreshTokenInvalid()
	case errors.Is(err, session.ErrEnded):
		return refusal.SessionEnded()
	case err != nil:
		return fmt.Errorf("judge the refresh token: %w", err)
	}
	return s.logOutAllOf(ctx, sess)
}

// logOutAllOf ends all sessions of the account by the authority of one.
func (s *Server) logOutAllOf(ctx context.Context, sess session.Session) error {
	by := revoke.Authority{UserID: sess.UserID, SessionID: sess.ID, Ledger: sess.Ledger}
	return s.logOutAllBy(ctx, by, revoke.Ending{Except: uuid.Nil, Kind: audit.AllLoggedOut})
}

func (s *Server) logOutAllBy(ctx context.Context, by revoke.Authority, ending revoke.Ending) error {
	err := s.revoker.Sessions(ctx, by, ending)
	switch {
	case refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED):
		// Perhaps by this very call, sent before, which may still be waiting.
		return s.revoker.RefuseEnded(ctx)
	case refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED),
		refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND):
		return refusal.SessionEnded() // what a refresh with the token would be told
	}
	return err
}
