package server

import (
	"context"
	"errors"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// Logout implements latchkey.v1.AuthService. A session that was ended before is one
// whose end may not be final yet: openSession has waited for it.
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
