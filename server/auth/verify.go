package auth

import (
	"context"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// VerifyEmail implements latchkey.v1.AuthService.
func (s *Service) VerifyEmail(ctx context.Context, req *latchkeyv1.VerifyEmailRequest) (*latchkeyv1.VerifyEmailResponse, error) {
	by, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	verified, err := s.Accounts.VerifyEmail(ctx, account.Proof{
		Mailed:   account.Mailed{Token: req.GetToken(), Email: req.GetEmail(), Code: req.GetCode()},
		Password: req.GetPassword(), By: by,
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.VerifyEmailResponse{User: verified.User.Message(), PasswordRemoved: verified.PasswordRemoved}, nil
}

// session returns the session whose access token the call carries, or nil if it carries no credential, or a key. It
// refuses a token that is not good: without a session the call would take the password from the account.
func (s *Service) session(ctx context.Context) (*revoke.Authority, error) {
	token := caller.From(ctx).Credential
	if token == "" || s.KeyShown(ctx) {
		return nil, nil //nolint:nilnil // no session is an answer
	}
	v, err := s.Validation.Validate(ctx, token, validate.ForAccount)
	switch {
	case err != nil:
		return nil, err
	case v.Reason == latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		return nil, refusal.AccountDisabled()
	case v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return nil, refusal.New(codes.Unauthenticated, v.Reason,
			"the access token in the metadata is not accepted: refresh it or log in again, or send none")
	}
	return &revoke.Authority{UserID: v.Claims.UserID, SessionID: v.Claims.SessionID, Position: v.Claims.Position, KeyID: v.KeyID}, nil
}

// ResendVerification implements latchkey.v1.AuthService.
func (s *Service) ResendVerification(ctx context.Context, req *latchkeyv1.ResendVerificationRequest) (*latchkeyv1.ResendVerificationResponse, error) {
	if err := s.Accounts.RequestVerification(ctx, req.GetEmail()); err != nil {
		return nil, err
	}
	return &latchkeyv1.ResendVerificationResponse{}, nil
}
