package server

import (
	"context"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// SignUp implements latchkey.v1.AuthService.
func (s *Server) SignUp(ctx context.Context, req *latchkeyv1.SignUpRequest) (*latchkeyv1.SignUpResponse, error) {
	user, shown, err := s.accounts.SignUp(ctx, account.NewUser{
		Email: req.GetEmail(), Password: req.GetPassword(), FirstName: req.GetFirstName(), LastName: req.GetLastName(),
	}, s.accounts.CheckPassword)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.SignUpResponse{}
	if shown {
		resp.User = user.Message()
	}
	return resp, nil
}

// ForgotPassword implements latchkey.v1.AuthService.
func (s *Server) ForgotPassword(ctx context.Context, req *latchkeyv1.ForgotPasswordRequest) (*latchkeyv1.ForgotPasswordResponse, error) {
	if err := s.accounts.ForgotPassword(ctx, req.GetEmail()); err != nil {
		return nil, err
	}
	return &latchkeyv1.ForgotPasswordResponse{}, nil
}

// ResetPassword implements latchkey.v1.AuthService.
func (s *Server) ResetPassword(ctx context.Context, req *latchkeyv1.ResetPasswordRequest) (*latchkeyv1.ResetPasswordResponse, error) {
	if err := s.accounts.ResetPassword(ctx, req.GetToken(), req.GetNewPassword(), s.accounts.CheckPassword); err != nil {
		return nil, err
	}
	return &latchkeyv1.ResetPasswordResponse{}, nil
}

// ChangePassword implements latchkey.v1.AuthService.
func (s *Server) ChangePassword(ctx context.Context, req *latchkeyv1.ChangePasswordRequest) (*latchkeyv1.ChangePasswordResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := s.accounts.ChangePassword(ctx, by, req.GetCurrentPassword(), req.GetNewPassword())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ChangePasswordResponse{DeviceToken: s.logins.DeviceToken(by.UserID, epoch, uuid.Nil)}, nil
}

// Login implements latchkey.v1.AuthService.
func (s *Server) Login(ctx context.Context, req *latchkeyv1.LoginRequest) (*latchkeyv1.LoginResponse, error) {
	result, err := s.logins.LogIn(ctx, login.Request{
		Email: req.GetEmail(), Password: req.GetPassword(), DeviceName: req.GetDeviceName(), DeviceToken: req.GetDeviceToken(),
		KeepsDeviceTokens: true,
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.LoginResponse{
		Result: &latchkeyv1.LoginResponse_Tokens{Tokens: result.Tokens.Message()},
		User:   result.User.Message(), DeviceToken: result.DeviceToken,
	}, nil
}

// RefreshToken implements latchkey.v1.AuthService.
func (s *Server) RefreshToken(ctx context.Context, req *latchkeyv1.RefreshTokenRequest) (*latchkeyv1.RefreshTokenResponse, error) {
	refresh := s.logins.Refresh
	if s.isLegacyToken(req.GetRefreshToken()) {
		refresh = s.refreshLegacy
	}
	tokens, err := refresh(ctx, req.GetRefreshToken(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RefreshTokenResponse{Tokens: tokens.Message()}, nil
}

// Logout implements latchkey.v1.AuthService.
func (s *Server) Logout(ctx context.Context, req *latchkeyv1.LogoutRequest) (*latchkeyv1.LogoutResponse, error) {
	logOut := s.logins.LogOut
	if s.isLegacyToken(req.GetRefreshToken()) {
		logOut = s.logOutLegacy
	}
	if err := logOut(ctx, req.GetRefreshToken(), req.GetAllSessions()); err != nil {
		return nil, err
	}
	return &latchkeyv1.LogoutResponse{}, nil
}
