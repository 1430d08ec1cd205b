package admin

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/server/sessions"
)

// ListUserSessions implements latchkey.v1.AdminService.
func (s *Service) ListUserSessions(ctx context.Context, req *latchkeyv1.ListUserSessionsRequest) (*latchkeyv1.ListUserSessionsResponse, error) {
	user, err := s.knownAccount(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	shown, next, err := sessions.Page(ctx, s.Logins, s.Pages, sessions.List{UserID: user.ID, Purpose: userSessionsPage}, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListUserSessionsResponse{Sessions: shown, NextPageToken: next}, nil
}

// RevokeUserSession implements latchkey.v1.AdminService. Like RevokeSession, it does not ask Redis whether the session
// exists: the row names the account, and refuses only tokens with both ids.
func (s *Service) RevokeUserSession(ctx context.Context, req *latchkeyv1.RevokeUserSessionRequest) (*latchkeyv1.RevokeUserSessionResponse, error) {
	user, err := s.knownAccount(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	id, err := sessions.ParseID(req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if _, err := s.Revoker.SessionOnce(ctx, audit.UserSessionRevoked, user.ID, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeUserSessionResponse{}, nil
}

// knownAccount refuses an id that no account has.
func (s *Service) knownAccount(ctx context.Context, text string) (account.User, error) {
	id, err := userID(text)
	if err != nil {
		return account.User{}, err
	}
	return s.Accounts.Known(ctx, id)
}
