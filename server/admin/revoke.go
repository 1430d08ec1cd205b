package admin

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// SuspendUser implements latchkey.v1.AdminService.
func (s *Service) SuspendUser(ctx context.Context, req *latchkeyv1.SuspendUserRequest) (*latchkeyv1.SuspendUserResponse, error) {
	shown, err := s.changed(ctx, req.GetUserId(), s.Accounts.Suspend)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.SuspendUserResponse{Account: shown}, nil
}

// ReactivateUser implements latchkey.v1.AdminService.
func (s *Service) ReactivateUser(ctx context.Context, req *latchkeyv1.ReactivateUserRequest) (*latchkeyv1.ReactivateUserResponse, error) {
	shown, err := s.changed(ctx, req.GetUserId(), s.Accounts.Reactivate)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ReactivateUserResponse{Account: shown}, nil
}

// RevokeUserSessions implements latchkey.v1.AdminService.
func (s *Service) RevokeUserSessions(ctx context.Context, req *latchkeyv1.RevokeUserSessionsRequest) (*latchkeyv1.RevokeUserSessionsResponse, error) {
	id, err := userID(req.GetUserId())
	if err != nil {
		return nil, err
	}
	if err := s.Revoker.User(ctx, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeUserSessionsResponse{}, nil
}

// RevokeAllSessions implements latchkey.v1.AdminService.
func (s *Service) RevokeAllSessions(ctx context.Context, _ *latchkeyv1.RevokeAllSessionsRequest) (*latchkeyv1.RevokeAllSessionsResponse, error) {
	if err := s.Revoker.All(ctx); err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeAllSessionsResponse{}, nil
}

// userID parses an id that the rules of the contract have accepted.
func userID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("the rules let pass an identifier that is none: %w", err)
	}
	return id, nil
}
