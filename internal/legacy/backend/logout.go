package backend

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

// LogOut implements auth.Older: Logout with a refresh token of an older backend. A token that was traded represents the
// session that it was traded for, as a spent token of ours represents its session. Any other token is spent, for no
// session.
func (b *Backend) LogOut(ctx context.Context, refreshToken string, all bool) error {
	old, err := b.openRefresh(ctx, refreshToken)
	if err != nil {
		return err
	}
	if old.spent == nil {
		if all {
			err = b.logOutAll(ctx, old)
		} else {
			err = b.endToken(ctx, old)
		}
		if errors.Is(err, errSpentMeanwhile) {
			err = b.readSpent(ctx, old)
		}
		if err != nil {
			return err
		}
	}
	if old.spent == nil {
		return nil
	}
	return b.logOutTraded(ctx, old, all)
}

// endToken spends the token and revokes the session id that belongs to it, so that the ledger refuses this token
// wherever it is shown.
func (b *Backend) endToken(ctx context.Context, old *oldRefresh) error {
	_, err := revoke.InTx(ctx, b.revoker, func(ctx context.Context, tx pgx.Tx) (struct{}, revoke.Ended, error) {
		if err := b.spendRefresh(ctx, tx, old, uuid.Nil, nil); err != nil {
			return struct{}{}, revoke.Ended{}, err
		}
		ended, err := b.revoker.AppendSession(ctx, tx, audit.LoggedOut, old.UserID, old.SessionID())
		return struct{}{}, ended, err
	})
	return err
}

// logOutAll ends all sessions of the account, and so every old token.
func (b *Backend) logOutAll(ctx context.Context, old *oldRefresh) error {
	position, err := positionOf(ctx, b.cfg.Pool, old.Token)
	if err != nil {
		return err
	}
	by := revoke.Authority{UserID: old.UserID, SessionID: old.SessionID(), Position: position}
	return b.logins.LogOutAllBy(ctx, by, revoke.Ending{
		Except: uuid.Nil, Kind: audit.AllLoggedOut,
		Change: func(ctx context.Context, tx pgx.Tx) error { return b.spendRefresh(ctx, tx, old, uuid.Nil, nil) },
	})
}

// logOutTraded is Logout with an old token that was spent. It can end all sessions only within the grace of its trade,
// as a spent token of ours can.
func (b *Backend) logOutTraded(ctx context.Context, old *oldRefresh, all bool) error {
	traded := old.spent.SessionID
	switch {
	case !traded.Valid:
		err := b.revoker.RefuseEnded(ctx)
		if refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED) && !all {
			return nil // it was logged out before
		}
		return err
	case !all:
		_, err := b.revoker.SessionOnce(ctx, audit.LoggedOut, old.UserID, traded.UUID)
		return err
	}
	sess, err := b.cfg.Sessions.Get(ctx, old.UserID, traded.UUID)
	if errors.Is(err, session.ErrUnknown) {
		return b.logins.UnknownSession(ctx, traded.UUID)
	}
	if err != nil {
		return fmt.Errorf("read the session: %w", err)
	}
	mark, err := b.queries.SessionMark(ctx, b.cfg.Pool, db.SessionMarkParams{SessionID: sess.ID, UserID: sess.UserID})
	if err != nil {
		return fmt.Errorf("look the session up: %w", err)
	}
	inGrace, first := b.cfg.Sessions.InGrace(old.spent.SpentAt), sess.Generation == 1 && mark <= 1
	switch {
	case inGrace && first:
		return b.logins.LogOutAllOf(ctx, sess) // the answer to the trade may be on its way
	case inGrace:
		return refusal.RefreshTokenInvalid()
	}
	return b.endReusedTrade(ctx, old.UserID, sess.ID)
}
