// Package accounts serves latchkey.v1.AccountService: it translates messages and calls flows.
package accounts

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/personaldata"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/server/page"
)

// Service implements latchkey.v1.AccountService. All fields are required.
type Service struct {
	latchkeyv1.UnimplementedAccountServiceServer

	Accounts *account.Accounts
	Logins   *login.Flow
	Factors  *factors.Flow
	Pages    page.Tokens
	// PersonalData writes all data about the owner of an account.
	PersonalData *personaldata.Flow
}

// GetAccount implements latchkey.v1.AccountService.
func (s *Service) GetAccount(ctx context.Context, _ *latchkeyv1.GetAccountRequest) (*latchkeyv1.GetAccountResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	user, err := s.Accounts.Own(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.GetAccountResponse{User: user.Message()}, nil
}

// UpdateAccount implements latchkey.v1.AccountService.
func (s *Service) UpdateAccount(ctx context.Context, req *latchkeyv1.UpdateAccountRequest) (*latchkeyv1.UpdateAccountResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	user, err := s.Accounts.Rename(ctx, by, account.Names{First: req.FirstName, Last: req.LastName})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.UpdateAccountResponse{User: user.Message()}, nil
}

// ChangeEmail implements latchkey.v1.AccountService.
func (s *Service) ChangeEmail(ctx context.Context, req *latchkeyv1.ChangeEmailRequest) (*latchkeyv1.ChangeEmailResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Accounts.ChangeEmail(ctx, by, req.GetNewEmail()); err != nil {
		return nil, err
	}
	return &latchkeyv1.ChangeEmailResponse{}, nil
}
