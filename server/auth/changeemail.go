package auth

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
)

// ConfirmEmailChange implements latchkey.v1.AuthService.
func (s *Service) ConfirmEmailChange(ctx context.Context, req *latchkeyv1.ConfirmEmailChangeRequest) (*latchkeyv1.ConfirmEmailChangeResponse, error) {
	shown := account.Mailed{Token: req.GetToken(), Email: req.GetEmail(), Code: req.GetCode()}
	if err := s.Accounts.ConfirmEmailChange(ctx, shown); err != nil {
		return nil, err
	}
	return &latchkeyv1.ConfirmEmailChangeResponse{}, nil
}

// UndoEmailChange implements latchkey.v1.AuthService.
func (s *Service) UndoEmailChange(ctx context.Context, req *latchkeyv1.UndoEmailChangeRequest) (*latchkeyv1.UndoEmailChangeResponse, error) {
	if err := s.Accounts.UndoEmailChange(ctx, req.GetToken()); err != nil {
		return nil, err
	}
	return &latchkeyv1.UndoEmailChangeResponse{}, nil
}
