package login

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

// LogOut ends the session of a refresh token, or all sessions of its account if all is set. If the session was ended
// before, openSession has waited until that is final.
func (f *Flow) LogOut(ctx context.Context, refreshToken string, all bool) error {
	presented, err := f.openSession(ctx, refreshToken)
	if refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED) && !all {
		return nil // it was logged out before
	}
	if err != nil {
		return err
	}
	if all {
		return f.logOutAll(ctx, presented)
	}
	return f.cfg.Revoker.Session(ctx, audit.LoggedOut, presented.Session.UserID, presented.Session.ID)
}

// logOutAll ends all sessions of the account. The session must be live: a thief whose session the owner has ended must
// not end the owner's sessions. The token must be live too: thieves find tokens that were spent long ago in backups and
// logs, and showing one is a reuse, as in a refresh.
func (f *Flow) logOutAll(ctx context.Context, presented *session.Presented) error {
	sess := presented.Session
	found, err := f.queries.FindUserForSession(ctx, f.cfg.Pool, db.FindUserForSessionParams{
		UserID: sess.UserID, SessionID: sess.ID, Position: sess.Position,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look the account up: %w", err)
	}
	if err != nil || found.Revoked || !found.User.IsActive {
		return f.cfg.Revoker.RefuseEnded(ctx) // perhaps ended by this very call, sent before
	}
	switch err := f.cfg.Sessions.Live(presented, MarkOf(found)); {
	case errors.Is(err, session.ErrReused):
		return f.endReused(ctx, &presented.Claim)
	case errors.Is(err, session.ErrLate):
		return refusal.RefreshTokenInvalid()
	case errors.Is(err, session.ErrEnded):
		return refusal.SessionEnded()
	case err != nil:
		return fmt.Errorf("judge the refresh token: %w", err)
	}
	return f.LogOutAllOf(ctx, sess)
}

// LogOutAllOf ends all sessions of the account on the authority of one.
func (f *Flow) LogOutAllOf(ctx context.Context, sess session.Session) error {
	by := revoke.Authority{UserID: sess.UserID, SessionID: sess.ID, Position: sess.Position}
	return f.LogOutAllBy(ctx, by, revoke.Ending{Except: uuid.Nil, Kind: audit.AllLoggedOut})
}

// LogOutAllBy ends all sessions of an account, as ending says. It says that they were ended before only when that is
// final.
func (f *Flow) LogOutAllBy(ctx context.Context, by revoke.Authority, ending revoke.Ending) error {
	err := f.cfg.Revoker.Sessions(ctx, by, ending)
	switch {
	case refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED):
		// Perhaps this very call, sent before, has ended the session and is still waiting.
		return f.cfg.Revoker.RefuseEnded(ctx)
	case refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED),
		refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND):
		return refusal.SessionEnded() // the answer to a refresh with the token
	}
	return err
}
