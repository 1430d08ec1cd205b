package server

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Memory is what validations are answered from.
type Memory = validate.Cache

// ValidateToken implements latchkey.v1.AuthService.
func (s *Server) ValidateToken(ctx context.Context, req *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	v, err := s.validation.Validate(ctx, req.GetAccessToken(), validate.ForServices)
	if err != nil {
		return nil, err
	}
	if v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return &latchkeyv1.ValidateTokenResponse{Reason: v.Reason}, nil
	}
	return &latchkeyv1.ValidateTokenResponse{Valid: true, User: v.User, SessionId: v.SessionID, ExpireTime: v.ExpireTime}, nil
}
