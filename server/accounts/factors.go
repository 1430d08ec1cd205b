package accounts

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// ListFactors implements latchkey.v1.AccountService.
func (s *Service) ListFactors(ctx context.Context, _ *latchkeyv1.ListFactorsRequest) (*latchkeyv1.ListFactorsResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.Factors.List(ctx, by.UserID)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ListFactorsResponse{Factors: factors.Messages(list)}, nil
}

// EnrollTotp implements latchkey.v1.AccountService.
func (s *Service) EnrollTotp(ctx context.Context, _ *latchkeyv1.EnrollTotpRequest) (*latchkeyv1.EnrollTotpResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	shown, err := s.Factors.EnrolTOTP(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.EnrollTotpResponse{Secret: shown.Secret, Uri: shown.URI, QrSvg: shown.QR}, nil
}

// ConfirmTotp implements latchkey.v1.AccountService.
func (s *Service) ConfirmTotp(ctx context.Context, req *latchkeyv1.ConfirmTotpRequest) (*latchkeyv1.ConfirmTotpResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := s.Factors.ConfirmTOTP(ctx, by, req.GetCode())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ConfirmTotpResponse{RecoveryCodes: codes}, nil
}

// RemoveTotp implements latchkey.v1.AccountService.
func (s *Service) RemoveTotp(ctx context.Context, _ *latchkeyv1.RemoveTotpRequest) (*latchkeyv1.RemoveTotpResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Factors.RemoveTOTP(ctx, by); err != nil {
		return nil, err
	}
	return &latchkeyv1.RemoveTotpResponse{}, nil
}

// RegenerateRecoveryCodes implements latchkey.v1.AccountService.
func (s *Service) RegenerateRecoveryCodes(
	ctx context.Context, _ *latchkeyv1.RegenerateRecoveryCodesRequest,
) (*latchkeyv1.RegenerateRecoveryCodesResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := s.Factors.RegenerateCodes(ctx, by)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RegenerateRecoveryCodesResponse{RecoveryCodes: codes}, nil
}
