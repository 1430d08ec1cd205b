package accounts

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// Reauthenticate implements latchkey.v1.AccountService.
func (s *Service) Reauthenticate(ctx context.Context, req *latchkeyv1.ReauthenticateRequest) (*latchkeyv1.ReauthenticateResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	tokens, err := s.reauthenticate(ctx, by, req)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ReauthenticateResponse{
		AccessToken: tokens.Access, AccessExpireTime: timestamppb.New(tokens.AccessExpireTime), AccountToken: tokens.Account,
	}, nil
}

func (s *Service) reauthenticate(ctx context.Context, by revoke.Authority, req *latchkeyv1.ReauthenticateRequest) (login.Tokens, error) {
	switch proof := req.GetProof().(type) {
	case *latchkeyv1.ReauthenticateRequest_Password:
		return s.Logins.ReauthenticatePassword(ctx, by, proof.Password)
	case *latchkeyv1.ReauthenticateRequest_TotpCode:
		return s.Logins.ReauthenticateFactor(ctx, by, factors.Answer{Kind: factors.TOTP, Field: "totp_code", Text: proof.TotpCode})
	case *latchkeyv1.ReauthenticateRequest_RecoveryCode:
		return s.Logins.ReauthenticateFactor(ctx, by, factors.Answer{Kind: factors.RecoveryCodes, Field: "recovery_code", Text: proof.RecoveryCode})
	case *latchkeyv1.ReauthenticateRequest_PasskeyJson:
		return s.Logins.ReauthenticatePasskey(ctx, by, req.GetChallengeToken(), proof.PasskeyJson)
	default:
		return login.Tokens{}, fmt.Errorf("the rules let a proof of type %T pass", proof)
	}
}
