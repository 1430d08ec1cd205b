package admin

import (
	"context"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/factors"
)

// ListUserFactors implements latchkey.v1.AdminService.
func (s *Service) ListUserFactors(ctx context.Context, req *latchkeyv1.ListUserFactorsRequest) (*latchkeyv1.ListUserFactorsResponse, error) {
	id, err := s.knownUser(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	list, err := s.Factors.List(ctx, id)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListUserFactorsResponse{Factors: factors.Messages(list)}, nil
}

// knownUser refuses an id that no account has.
func (s *Service) knownUser(ctx context.Context, text string) (uuid.UUID, error) {
	id, err := userID(text)
	if err != nil {
		return uuid.Nil, err
	}
	user, err := s.Accounts.Known(ctx, id)
	return user.ID, err
}

// RemoveUserFactors implements latchkey.v1.AdminService.
func (s *Service) RemoveUserFactors(ctx context.Context, req *latchkeyv1.RemoveUserFactorsRequest) (*latchkeyv1.RemoveUserFactorsResponse, error) {
	id, err := userID(req.GetUserId())
	if err != nil {
		return nil, err
	}
	if err := s.Factors.RemoveAll(ctx, id); err != nil {
		return nil, err
	}
	return &latchkeyv1.RemoveUserFactorsResponse{}, nil
}
