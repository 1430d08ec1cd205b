package login

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// Sessions returns the live sessions of an account, the newest first. Redis has the data of a session, and the ledger
// says whether it is live. An account has at most LATCHKEY_SESSION_LIMIT sessions.
func (f *Flow) Sessions(ctx context.Context, userID uuid.UUID) ([]session.Session, error) {
	all, err := f.cfg.Sessions.List(ctx, userID)
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	return f.live(ctx, userID, all)
}

// Session returns a live session of an account, or refusal.SessionNotFound.
func (f *Flow) Session(ctx context.Context, userID, id uuid.UUID) (session.Session, error) {
	found, err := f.cfg.Sessions.Get(ctx, userID, id)
	if errors.Is(err, session.ErrUnknown) {
		return session.Session{}, refusal.SessionNotFound()
	}
	if err != nil {
		return session.Session{}, fmt.Errorf("read the session: %w", err)
	}
	live, err := f.live(ctx, userID, []session.Session{found})
	if err != nil {
		return session.Session{}, err
	}
	if len(live) == 0 {
		return session.Session{}, refusal.SessionNotFound()
	}
	return found, nil
}

// live leaves out the sessions that the ledger has ended, even if Redis still has them.
func (f *Flow) live(ctx context.Context, userID uuid.UUID, all []session.Session) ([]session.Session, error) {
	if len(all) == 0 {
		return nil, nil
	}
	params := db.RevokedSessionsParams{UserID: userID}
	for _, sess := range all {
		params.SessionIds = append(params.SessionIds, sess.ID)
		params.Positions = append(params.Positions, sess.Position)
	}
	revoked, err := f.queries.RevokedSessions(ctx, f.cfg.Pool, params)
	if err != nil {
		return nil, fmt.Errorf("look the sessions up: %w", err)
	}
	ended := make(map[uuid.UUID]bool, len(revoked))
	for _, id := range revoked {
		ended[id] = true
	}
	return slices.DeleteFunc(all, func(sess session.Session) bool { return ended[sess.ID] }), nil
}
