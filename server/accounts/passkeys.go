package accounts

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// StartPasskeyRegistration implements latchkey.v1.AccountService.
func (s *Service) StartPasskeyRegistration(
	ctx context.Context, _ *latchkeyv1.StartPasskeyRegistrationRequest,
) (*latchkeyv1.StartPasskeyRegistrationResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	ceremony, err := s.Factors.StartPasskey(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.StartPasskeyRegistrationResponse{ChallengeToken: ceremony.Token, OptionsJson: ceremony.Options}, nil
}

// FinishPasskeyRegistration implements latchkey.v1.AccountService.
func (s *Service) FinishPasskeyRegistration(
	ctx context.Context, req *latchkeyv1.FinishPasskeyRegistrationRequest,
) (*latchkeyv1.FinishPasskeyRegistrationResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	added, err := s.Factors.FinishPasskey(ctx, by, req.GetChallengeToken(), req.GetCredentialJson(), req.GetName())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.FinishPasskeyRegistrationResponse{
		Passkey: factors.Messages([]factors.Factor{added.Factor})[0], RecoveryCodes: added.Codes,
	}, nil
}

// RenamePasskey implements latchkey.v1.AccountService.
func (s *Service) RenamePasskey(ctx context.Context, req *latchkeyv1.RenamePasskeyRequest) (*latchkeyv1.RenamePasskeyResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := passkeyID(req.GetPasskeyId())
	if err != nil {
		return nil, err
	}
	if err := s.Factors.RenamePasskey(ctx, by, id, req.GetName()); err != nil {
		return nil, err
	}
	return &latchkeyv1.RenamePasskeyResponse{}, nil
}

// RemovePasskey implements latchkey.v1.AccountService.
func (s *Service) RemovePasskey(ctx context.Context, req *latchkeyv1.RemovePasskeyRequest) (*latchkeyv1.RemovePasskeyResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	id, err := passkeyID(req.GetPasskeyId())
	if err != nil {
		return nil, err
	}
	accepted, err := s.Factors.RemovePasskey(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RemovePasskeyResponse{AcceptedCredentialsJson: accepted}, nil
}

func passkeyID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("the rules let an id pass that is none: %w", err)
	}
	return id, nil
}
