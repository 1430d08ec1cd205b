// Package auth serves latchkey.v1.AuthService: it translates messages and calls flows.
package auth

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Older is the hook for refresh tokens of the older backends.
type Older interface {
	// Owns returns whether a token is of an older backend. It does not check whether the token is good.
	Owns(refreshToken string) bool
	// Refresh and LogOut do the same as those of login.Flow.
	Refresh(ctx context.Context, refreshToken, requestID string) (login.Tokens, error)
	LogOut(ctx context.Context, refreshToken string, all bool) error
}

// Service implements latchkey.v1.AuthService. All fields are required, except Older.
type Service struct {
	latchkeyv1.UnimplementedAuthServiceServer

	Accounts   *account.Accounts
	Logins     *login.Flow
	Validation *validate.Validator
	// KeyShown returns whether the caller shows a key of an operator or a service.
	KeyShown func(ctx context.Context) bool
	// Older is nil if Latchkey accepts nothing of an older backend.
	Older Older
}

// SignUp implements latchkey.v1.AuthService.
func (s *Service) SignUp(ctx context.Context, req *latchkeyv1.SignUpRequest) (*latchkeyv1.SignUpResponse, error) {
	user, shown, err := s.Accounts.SignUp(ctx, account.NewUser{
		Email: req.GetEmail(), Password: req.GetPassword(), FirstName: req.GetFirstName(), LastName: req.GetLastName(),
	}, s.Accounts.CheckPassword)
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
func (s *Service) ForgotPassword(ctx context.Context, req *latchkeyv1.ForgotPasswordRequest) (*latchkeyv1.ForgotPasswordResponse, error) {
	if err := s.Accounts.ForgotPassword(ctx, req.GetEmail()); err != nil {
		return nil, err
	}
	return &latchkeyv1.ForgotPasswordResponse{}, nil
}

// ResetPassword implements latchkey.v1.AuthService.
func (s *Service) ResetPassword(ctx context.Context, req *latchkeyv1.ResetPasswordRequest) (*latchkeyv1.ResetPasswordResponse, error) {
	if err := s.Accounts.ResetPassword(ctx, req.GetToken(), req.GetNewPassword(), s.Accounts.CheckPassword); err != nil {
		return nil, err
	}
	return &latchkeyv1.ResetPasswordResponse{}, nil
}

// ChangePassword implements latchkey.v1.AuthService.
func (s *Service) ChangePassword(ctx context.Context, req *latchkeyv1.ChangePasswordRequest) (*latchkeyv1.ChangePasswordResponse, error) {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := s.Accounts.ChangePassword(ctx, by, req.GetCurrentPassword(), req.GetNewPassword())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ChangePasswordResponse{DeviceToken: s.Logins.DeviceToken(by.UserID, epoch, uuid.Nil)}, nil
}

// Login implements latchkey.v1.AuthService.
func (s *Service) Login(ctx context.Context, req *latchkeyv1.LoginRequest) (*latchkeyv1.LoginResponse, error) {
	result, err := s.Logins.LogIn(ctx, login.Request{
		Email: req.GetEmail(), Password: req.GetPassword(), DeviceName: req.GetDeviceName(), DeviceToken: req.GetDeviceToken(),
		KeepsDeviceTokens: true, AnswersChallenges: true, KeepsAccount: req.GetCancelDeletion(),
	})
	if err != nil {
		return nil, err
	}
	if result.Challenge != nil {
		return &latchkeyv1.LoginResponse{Result: &latchkeyv1.LoginResponse_Challenge{Challenge: challengeMessage(result.Challenge)}}, nil
	}
	return &latchkeyv1.LoginResponse{
		Result: &latchkeyv1.LoginResponse_Tokens{Tokens: tokensMessage(result.Tokens)},
		User:   result.User.Message(), DeviceToken: result.DeviceToken,
	}, nil
}

// AnswerChallenge implements latchkey.v1.AuthService.
func (s *Service) AnswerChallenge(ctx context.Context, req *latchkeyv1.AnswerChallengeRequest) (*latchkeyv1.AnswerChallengeResponse, error) {
	asked := login.AnswerRequest{ChallengeToken: req.GetChallengeToken(), DeviceName: req.GetDeviceName(), KeepsAccount: req.GetCancelDeletion()}
	switch answer := req.GetAnswer().(type) {
	case *latchkeyv1.AnswerChallengeRequest_PasskeyJson:
		asked.Answer = factors.Answer{Kind: factors.Passkey, Field: "passkey_json", Text: answer.PasskeyJson}
		return answered(s.Logins.AnswerPasskey(ctx, asked))
	case *latchkeyv1.AnswerChallengeRequest_EmailCode:
		return answered(s.Logins.AnswerCode(ctx, login.CodeRequest{
			ChallengeToken: req.GetChallengeToken(), Code: answer.EmailCode, DeviceName: req.GetDeviceName(), DeviceToken: req.GetDeviceToken(),
		}))
	case *latchkeyv1.AnswerChallengeRequest_TotpCode:
		asked.Answer = factors.Answer{Kind: factors.TOTP, Field: "totp_code", Text: answer.TotpCode}
	case *latchkeyv1.AnswerChallengeRequest_RecoveryCode:
		asked.Answer = factors.Answer{Kind: factors.RecoveryCodes, Field: "recovery_code", Text: answer.RecoveryCode}
	default:
		return nil, fmt.Errorf("the rules let an answer of type %T pass", answer)
	}
	return answered(s.Logins.AnswerChallenge(ctx, asked))
}

// SendLoginCode implements latchkey.v1.AuthService.
func (s *Service) SendLoginCode(ctx context.Context, req *latchkeyv1.SendLoginCodeRequest) (*latchkeyv1.SendLoginCodeResponse, error) {
	token, err := s.Accounts.SendLoginCode(ctx, req.GetEmail())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.SendLoginCodeResponse{ChallengeToken: token}, nil
}

// StartPasskeyLogin implements latchkey.v1.AuthService.
func (s *Service) StartPasskeyLogin(context.Context, *latchkeyv1.StartPasskeyLoginRequest) (*latchkeyv1.StartPasskeyLoginResponse, error) {
	ceremony, err := s.Logins.StartPasskeyLogin()
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.StartPasskeyLoginResponse{ChallengeToken: ceremony.Token, OptionsJson: ceremony.Options}, nil
}

func answered(result login.Result, err error) (*latchkeyv1.AnswerChallengeResponse, error) {
	if err != nil {
		return nil, err
	}
	if result.Challenge != nil {
		return &latchkeyv1.AnswerChallengeResponse{
			Result:          &latchkeyv1.AnswerChallengeResponse_Challenge{Challenge: challengeMessage(result.Challenge)},
			PasswordRemoved: result.PasswordRemoved,
		}, nil
	}
	return &latchkeyv1.AnswerChallengeResponse{
		Result: &latchkeyv1.AnswerChallengeResponse_Tokens{Tokens: tokensMessage(result.Tokens)},
		User:   result.User.Message(), DeviceToken: result.DeviceToken, PasswordRemoved: result.PasswordRemoved,
	}, nil
}

// challengeMessage returns the challenge as the contract has it.
func challengeMessage(c *login.Challenge) *latchkeyv1.Challenge {
	message := &latchkeyv1.Challenge{ChallengeToken: c.Token, OptionsJson: c.Options, ExpireTime: timestamppb.New(c.ExpireTime)}
	for _, kind := range c.Kinds {
		message.Factors = append(message.Factors, &latchkeyv1.Factor{Kind: kind.Message()})
	}
	return message
}

// RefreshToken implements latchkey.v1.AuthService.
func (s *Service) RefreshToken(ctx context.Context, req *latchkeyv1.RefreshTokenRequest) (*latchkeyv1.RefreshTokenResponse, error) {
	refresh := s.Logins.Refresh
	if s.Older != nil && s.Older.Owns(req.GetRefreshToken()) {
		refresh = s.Older.Refresh
	}
	tokens, err := refresh(ctx, req.GetRefreshToken(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RefreshTokenResponse{Tokens: tokensMessage(tokens)}, nil
}

// Logout implements latchkey.v1.AuthService.
func (s *Service) Logout(ctx context.Context, req *latchkeyv1.LogoutRequest) (*latchkeyv1.LogoutResponse, error) {
	logOut := s.Logins.LogOut
	if s.Older != nil && s.Older.Owns(req.GetRefreshToken()) {
		logOut = s.Older.LogOut
	}
	if err := logOut(ctx, req.GetRefreshToken(), req.GetAllSessions()); err != nil {
		return nil, err
	}
	return &latchkeyv1.LogoutResponse{}, nil
}

// ExchangeAuthorizationCode implements latchkey.v1.AuthService.
func (s *Service) ExchangeAuthorizationCode(
	ctx context.Context, req *latchkeyv1.ExchangeAuthorizationCodeRequest,
) (*latchkeyv1.ExchangeAuthorizationCodeResponse, error) {
	result, err := s.Logins.ExchangeCode(ctx, login.Exchange{
		Code: req.GetCode(), Verifier: req.GetCodeVerifier(), RedirectURI: req.GetRedirectUri(), DeviceName: req.GetDeviceName(),
	})
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ExchangeAuthorizationCodeResponse{Tokens: tokensMessage(result.Tokens), User: result.User.Message()}, nil
}

// ValidateToken implements latchkey.v1.AuthService.
func (s *Service) ValidateToken(ctx context.Context, req *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	v, err := s.Validation.Validate(ctx, req.GetAccessToken(), validate.ForServices)
	if err != nil {
		return nil, err
	}
	if v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return &latchkeyv1.ValidateTokenResponse{Reason: v.Reason}, nil
	}
	return &latchkeyv1.ValidateTokenResponse{Valid: true, User: v.User, SessionId: v.SessionID, ExpireTime: v.ExpireTime}, nil
}

// tokensMessage returns the tokens as the contract has them.
func tokensMessage(t login.Tokens) *latchkeyv1.Tokens {
	return &latchkeyv1.Tokens{
		AccessToken: t.Access, AccountToken: t.Account, RefreshToken: t.Refresh, SessionId: t.SessionID.String(),
		AccessExpireTime: timestamppb.New(t.AccessExpireTime), RefreshExpireTime: timestamppb.New(t.RefreshExpireTime),
	}
}
