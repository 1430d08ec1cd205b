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

// LogOut implements auth.Older: Logout with a refresh token of an existing backend. One that was
// traded stands for the session that it was traded for, as a spent token of ours does
// for its session; any other is spent, for no session.
func (s *LegacyBackend) LogOut(ctx context.Context, refreshToken string, all bool) error {
	old, err := s.openLegacyRefresh(ctx, refreshToken)
	if err != nil {
		return err
	}
	if old.spent == nil {
		if all {
			err = s.logOutAllLegacy(ctx, old)
		} else {
			err = s.endLegacy(ctx, old)
		}
		if errors.Is(err, errSpentMeanwhile) {
			err = s.readSpent(ctx, old)
		}
		if err != nil {
			return err
		}
	}
	if old.spent == nil {
		return nil
	}
	return s.logOutTraded(ctx, old, all)
}

// endLegacy spends the token and ends what stands for its session, so that the very
// token is refused by whoever asks the ledger.
func (s *LegacyBackend) endLegacy(ctx context.Context, old *legacyRefresh) error {
	_, err := revoke.InTx(ctx, s.revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		if err := s.spendLegacyRefresh(ctx, tx, old, uuid.Nil, nil); err != nil {
			return struct{}{}, revoke.Ended{}, err
		}
		ended, err := s.revoker.AppendSession(ctx, tx, audit.LoggedOut, old.UserID, old.SessionID())
		return struct{}{}, ended, err
	})
	return err
}

// logOutAllLegacy ends all sessions of the account, and with them every old token.
func (s *LegacyBackend) logOutAllLegacy(ctx context.Context, old *legacyRefresh) error {
	by := revoke.Authority{UserID: old.UserID, SessionID: old.SessionID()}
	return s.logins.LogOutAllBy(ctx, by, revoke.Ending{
		Except: uuid.Nil, Kind: audit.AllLoggedOut,
		Change: func(ctx context.Context, tx pgx.Tx) error { return s.spendLegacyRefresh(ctx, tx, old, uuid.Nil, nil) },
	})
}

// logOutTraded is Logout with an old token that was spent. For all sessions it speaks only
// within the grace of its trade, as a spent token of ours does.
func (s *LegacyBackend) logOutTraded(ctx context.Context, old *legacyRefresh, all bool) error {
	traded := old.spent.SessionID
	switch {
	case !traded.Valid:
		err := s.revoker.RefuseEnded(ctx)
		if refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED) && !all {
			return nil // logged out before
		}
		return err
	case !all:
		_, err := s.revoker.SessionOnce(ctx, audit.LoggedOut, old.UserID, traded.UUID)
		return err
	}
	sess, err := s.cfg.Sessions.Get(ctx, old.UserID, traded.UUID)
	if errors.Is(err, session.ErrUnknown) {
		return s.logins.UnknownSession(ctx, traded.UUID)
	}
	if err != nil {
		return fmt.Errorf("read the session: %w", err)
	}
	mark, err := s.queries.SessionMark(ctx, s.cfg.Pool, db.SessionMarkParams{SessionID: sess.ID, UserID: sess.UserID})
	if err != nil {
		return fmt.Errorf("look the session up: %w", err)
	}
	inGrace, first := s.cfg.Sessions.InGrace(old.spent.SpentAt), sess.Generation == 1 && mark <= 1
	switch {
	case inGrace && first:
		return s.logins.LogOutAllOf(ctx, sess) // the answer to the trade may be on its way
	case inGrace:
		return refusal.RefreshTokenInvalid()
	}
	return s.endReusedTrade(ctx, old.UserID, sess.ID)
}
