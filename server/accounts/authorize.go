package accounts

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// CreateAuthorizationCode implements latchkey.v1.AccountService.
func (s *Service) CreateAuthorizationCode(
	ctx context.Context, req *latchkeyv1.CreateAuthorizationCodeRequest,
) (*latchkeyv1.CreateAuthorizationCodeResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	code, expires, err := s.Logins.Authorize(ctx, by, req.GetRedirectUri(), req.GetCodeChallenge())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.CreateAuthorizationCodeResponse{Code: code, ExpireTime: timestamppb.New(expires)}, nil
}
