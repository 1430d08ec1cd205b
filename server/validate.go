package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/token"
)

// ValidateToken implements latchkey.v1.AuthService.
func (s *Server) ValidateToken(ctx context.Context, req *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	v, err := s.validate(ctx, req.GetAccessToken())
	if err != nil {
		return nil, err
	}
	if v.reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return &latchkeyv1.ValidateTokenResponse{Reason: v.reason}, nil
	}
	return &latchkeyv1.ValidateTokenResponse{
		Valid:      true,
		User:       userMessage(v.user),
		SessionId:  v.claims.SessionID.String(),
		ExpireTime: timestamppb.New(v.claims.ExpireTime),
	}, nil
}

// verdict is what was found of an access token. With a reason it is not good, and
// nothing else in it is to be used.
type verdict struct {
	reason latchkeyv1.ErrorReason
	claims *token.Claims
	user   db.User
}

// validate checks the signature and times, then the account, then the ledger. An
// error means that it could not be found out.
func (s *Server) validate(ctx context.Context, accessToken string) (verdict, error) {
	claims, err := s.cfg.Keyring.Verify(ctx, accessToken)
	switch {
	case errors.Is(err, token.ErrInvalid):
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID}, nil
	case errors.Is(err, token.ErrExpired):
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED}, nil
	case err != nil:
		return verdict{}, fmt.Errorf("verify the access token: %w", err)
	}
	account, err := s.queries.FindUserForSession(ctx, s.cfg.Pool, db.FindUserForSessionParams{
		UserID: claims.UserID, SessionID: claims.SessionID, Ledger: claims.Ledger,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND}, nil
	case err != nil:
		return verdict{}, fmt.Errorf("look the account up: %w", err)
	case !account.User.IsActive:
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED}, nil
	case account.Revoked:
		return verdict{reason: latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED}, nil
	}
	return verdict{claims: claims, user: account.User}, nil
}

// bearerScheme is compared without regard to letter case (RFC 9110, section 11.1).
const bearerScheme = "bearer "

// authenticate is the credential check of methods with AUTH_CLASS_SESSION.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 || len(values[0]) < len(bearerScheme) || !strings.EqualFold(values[0][:len(bearerScheme)], bearerScheme) {
		return nil, refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID,
			"this method needs an access token: send the metadata authorization: Bearer TOKEN once")
	}
	v, err := s.validate(ctx, values[0][len(bearerScheme):])
	if err != nil {
		return nil, err
	}
	if v.reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		code := codes.Unauthenticated
		if v.reason == latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED {
			code = codes.PermissionDenied
		}
		return nil, refuse(code, v.reason, "the access token is not accepted: refresh it or log in again")
	}
	return context.WithValue(ctx, callerKey{}, v), nil
}

type callerKey struct{}

// callerFrom is the account and the claims of a call that authenticate let pass.
func callerFrom(ctx context.Context) (verdict, bool) {
	v, ok := ctx.Value(callerKey{}).(verdict)
	return v, ok
}
