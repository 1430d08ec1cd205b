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
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// RefreshToken implements latchkey.v1.AuthService. The order matters: the MAC is
// checked before anything changes, so that knowing a session's id is not enough to
// disturb it; PostgreSQL is asked before Redis moves on, so that a disabled account
// or an ended session never refreshes, whatever Redis says.
func (s *Server) RefreshToken(ctx context.Context, req *latchkeyv1.RefreshTokenRequest) (*latchkeyv1.RefreshTokenResponse, error) {
	if err := s.checkClock(); err != nil {
		return nil, err
	}
	if s.isLegacyToken(req.GetRefreshToken()) {
		return s.refreshLegacy(ctx, req)
	}
	presented, err := s.openSession(ctx, req.GetRefreshToken())
	if err != nil {
		return nil, err
	}
	sess := presented.Session
	account, err := s.queries.FindUserForSession(ctx, s.cfg.Pool, db.FindUserForSessionParams{
		UserID: sess.UserID, SessionID: sess.ID, Ledger: sess.Ledger,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("look the account up: %w", err)
	}
	if err != nil || account.Revoked || !account.User.IsActive {
		s.revoker.DropSession(ctx, sess.UserID, sess.ID)
		return nil, refusal.SessionEnded()
	}
	mark := markOf(account)
	rotation, err := s.rotate(ctx, presented, req.GetRequestId(), mark)
	if err != nil {
		return nil, err
	}
	if err := s.markSession(ctx, rotation, mark); err != nil {
		return nil, err
	}
	tokens, err := s.issue(ctx, rotation.Session, account.User.Email, rotation.IssueTime, rotation.RefreshToken)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RefreshTokenResponse{Tokens: tokens}, nil
}

// openSession finds the session of a refresh token. Redis may have lost it: then
// the ledger still knows whether it was ended.
func (s *Server) openSession(ctx context.Context, refreshToken string) (*session.Presented, error) {
	presented, err := s.cfg.Sessions.Open(ctx, refreshToken)
	var unknown *session.UnknownError
	switch {
	case err == nil:
		return presented, nil
	case errors.Is(err, session.ErrInvalid):
		return nil, refusal.RefreshTokenInvalid()
	case errors.As(err, &unknown):
		return nil, s.unknownSession(ctx, unknown.SessionID)
	}
	return nil, fmt.Errorf("read the session: %w", err)
}

// unknownSession is the refusal of a session that Redis does not have. Nothing more
// can be told from a token whose MAC cannot be checked; that the named session was
// ended is no secret to somebody who knows its id.
func (s *Server) unknownSession(ctx context.Context, id uuid.UUID) error {
	ended, err := s.queries.SessionRevoked(ctx, s.cfg.Pool, id)
	if err != nil {
		return fmt.Errorf("look the session up: %w", err)
	}
	if !ended.Revoked {
		return refusal.RefreshTokenInvalid()
	}
	// "Ended" is only said once it is final, which the call that ended it may still be
	// waiting for.
	err = s.revoker.WaitFinal(ctx, ended.Ledger)
	if err != nil {
		return err
	}
	return refusal.SessionEnded()
}

// markOf is how far PostgreSQL has seen the session come.
func markOf(account db.FindUserForSessionRow) session.Mark {
	return session.Mark{Generation: uint64(max(account.Mark, 0)), Time: timeOrZero(account.MarkedAt)}
}

// markSession notes now and then how far a session has come, so that a Redis which gets
// an older copy of itself back revives few of the tokens that were spent. The answer
// waits for it: when it fails the client repeats the call.
func (s *Server) markSession(ctx context.Context, rotation session.Rotation, mark session.Mark) error {
	if !mark.Due(rotation) {
		return nil
	}
	sess := rotation.Session
	err := s.queries.MarkSession(ctx, s.cfg.Pool, db.MarkSessionParams{
		SessionID: sess.ID, UserID: sess.UserID, Generation: int64(sess.Generation), //nolint:gosec // G115: below 2^53
		MarkedAt: sess.RotateTime, KeepUntil: sess.End.Add(spentMargin),
	})
	if err != nil {
		return fmt.Errorf("note how far the session has come: %w", err)
	}
	return nil
}

// rotate spends the token and says what comes next. A reuse ends the session, and
// no other of the account.
func (s *Server) rotate(ctx context.Context, presented *session.Presented, requestID string, mark session.Mark) (session.Rotation, error) {
	sess := presented.Session
	rotation, err := s.cfg.Sessions.Rotate(ctx, presented, requestID, mark)
	switch {
	case errors.Is(err, session.ErrReused):
		return rotation, s.endReused(ctx, sess)
	case errors.Is(err, session.ErrLate):
		return rotation, refusal.RefreshTokenInvalid()
	case errors.Is(err, session.ErrEnded):
		return rotation, refusal.SessionEnded()
	case errors.Is(err, session.ErrUnknown):
		return rotation, s.unknownSession(ctx, sess.ID)
	case err != nil:
		return rotation, fmt.Errorf("rotate the refresh token: %w", err)
	}
	var noted audit.Kind
	switch rotation.Outcome {
	case session.Advanced, session.RepeatedSameRequest:
		return rotation, nil
	case session.RepeatedInGrace:
		noted = audit.RefreshRepeat
	case session.CaughtUp:
		noted = audit.RefreshCaughtUp
	}
	if err := s.trail.RecordRepeated(ctx, s.cfg.Pool, noted, sess.UserID, sess.ID); err != nil {
		return rotation, fmt.Errorf("note the repeated refresh: %w", err)
	}
	return rotation, nil
}

// endReused ends the session of a token that was used before, and tells the owner. Its error is the answer.
func (s *Server) endReused(ctx context.Context, sess session.Session) error {
	if err := s.revoker.Session(ctx, audit.RefreshReused, sess.UserID, sess.ID); err != nil {
		return err
	}
	s.afterwards.Do(ctx, "tell the owner of a reuse", func(ctx context.Context) error {
		return postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
			return s.notifyOwner(ctx, tx, mail.RefreshTokenReused, sess.UserID)
		})
	})
	return refusal.RefreshTokenReused()
}
