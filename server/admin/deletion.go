package admin

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
)

// DeleteUser implements latchkey.v1.AdminService.
func (s *Service) DeleteUser(ctx context.Context, req *latchkeyv1.DeleteUserRequest) (*latchkeyv1.DeleteUserResponse, error) {
	id, err := userID(req.GetUserId())
	if err != nil {
		return nil, err
	}
	at, err := s.Accounts.DeleteByOperator(ctx, id, req.GetImmediately())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.DeleteUserResponse{DeleteTime: timestamppb.New(at)}, nil
}

// RestoreUser implements latchkey.v1.AdminService.
func (s *Service) RestoreUser(ctx context.Context, req *latchkeyv1.RestoreUserRequest) (*latchkeyv1.RestoreUserResponse, error) {
	shown, err := s.changed(ctx, req.GetUserId(), s.Accounts.Restore)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RestoreUserResponse{Account: shown}, nil
}

// ExportUser implements latchkey.v1.AdminService.
func (s *Service) ExportUser(ctx context.Context, req *latchkeyv1.ExportUserRequest) (*latchkeyv1.ExportUserResponse, error) {
	id, err := userID(req.GetUserId())
	if err != nil {
		return nil, err
	}
	text, err := s.PersonalData.ByOperator(ctx, id)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ExportUserResponse{AccountJson: text}, nil
}

// VerifyUserEmail implements latchkey.v1.AdminService.
func (s *Service) VerifyUserEmail(ctx context.Context, req *latchkeyv1.VerifyUserEmailRequest) (*latchkeyv1.VerifyUserEmailResponse, error) {
	shown, err := s.changed(ctx, req.GetUserId(), s.Accounts.VerifyByOperator)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.VerifyUserEmailResponse{Account: shown}, nil
}

// changed makes a change to an account and returns the account as operators see it.
func (s *Service) changed(ctx context.Context, text string, change func(context.Context, uuid.UUID) (account.User, error)) (*latchkeyv1.Account, error) {
	id, err := userID(text)
	if err != nil {
		return nil, err
	}
	user, err := change(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.accountMessage(ctx, user)
}
