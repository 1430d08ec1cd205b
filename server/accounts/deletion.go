package accounts

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// DeleteAccount implements latchkey.v1.AccountService.
func (s *Service) DeleteAccount(ctx context.Context, _ *latchkeyv1.DeleteAccountRequest) (*latchkeyv1.DeleteAccountResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	at, err := s.Accounts.Delete(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.DeleteAccountResponse{DeleteTime: timestamppb.New(at)}, nil
}

// ExportAccount implements latchkey.v1.AccountService.
func (s *Service) ExportAccount(ctx context.Context, _ *latchkeyv1.ExportAccountRequest) (*latchkeyv1.ExportAccountResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	text, err := s.PersonalData.Own(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ExportAccountResponse{AccountJson: text}, nil
}
