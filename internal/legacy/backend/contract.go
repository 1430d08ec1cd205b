package backend

import (
	"context"
	"math"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// The texts of the old contract. Its clients show them to people: change none.
const (
	textSignedUp        = "User registered successfully"
	textEmailTaken      = "email already registered"
	textWrongPassword   = "invalid email or password"
	textDisabled        = "account is disabled"
	textTooManyFailures = "too many failed login attempts, please try again later"
	textResetMailed     = "If your email is registered, you will receive a password reset link"
	textResetInvalid    = "invalid or expired reset token"
	textReset           = "Password reset successfully"
	textTokenValid      = "token is valid"
	textNotValid        = "invalid or expired token"
	textUserGone        = "user not found"
	textUserDisabled    = "user account is disabled"
)

const (
	// clientNoted is how often one client is logged.
	clientNoted = time.Hour
	// clientsNoted bounds the memory for that, at some 200 bytes each: with more
	// clients they are logged more often.
	clientsNoted = 10_000
	// maxUserAgent is how much of what a client says of itself is logged, in bytes.
	maxUserAgent = 200
)

// contract serves the contract of the older backends (package auth) with
// the handlers of latchkey.v1. What it adds is their words.
type contract struct {
	authpb.UnimplementedAuthServiceServer
	backend *Backend

	mu    sync.Mutex
	noted map[client]time.Time
}

// client is somebody who still calls the old contract.
type client struct{ address, userAgent string }

func newContract(b *Backend) *contract {
	return &contract{backend: b, noted: map[client]time.Time{}}
}

// byProto is the account.Rule of the old contract: its proto's rules, which were
// checked before, and no others, since people's forms were built for them.
func byProto(string, string, []string) error { return nil }

// SignUp implements auth.AuthService. Passwords are judged byProto.
func (c *contract) SignUp(ctx context.Context, req *authpb.SignUpRequest) (*authpb.SignUpResponse, error) {
	c.note(ctx, "SignUp")
	user, shown, err := c.backend.accounts.SignUp(ctx, account.NewUser{
		Email: req.GetEmail(), Password: req.GetPassword(), FirstName: req.GetFirstName(), LastName: req.GetLastName(),
	}, byProto)
	if err != nil {
		return nil, c.inOldWords(err)
	}
	resp := &authpb.SignUpResponse{Success: true, Message: textSignedUp}
	if shown {
		resp.User = oldUser(user.Message())
	}
	return resp, nil
}

// Login implements auth.AuthService.
func (c *contract) Login(ctx context.Context, req *authpb.LoginRequest) (*authpb.LoginResponse, error) {
	c.note(ctx, "Login")
	result, err := c.backend.logins.LogIn(ctx, login.Request{Email: req.GetEmail(), Password: req.GetPassword()})
	if err != nil {
		return nil, c.inOldWords(err)
	}
	return &authpb.LoginResponse{
		AccessToken: result.Tokens.Access, RefreshToken: result.Tokens.Refresh,
		ExpiresIn: int64(math.Ceil(result.Tokens.AccessExpireTime.Sub(c.backend.cfg.Now()).Seconds())),
		User:      oldUser(result.User.Message()),
	}, nil
}

// ForgotPassword implements auth.AuthService. The contract knows one answer: what
// latchkey.v1 would refuse, an address of the wrong form or too many mails to one,
// sends nothing.
func (c *contract) ForgotPassword(ctx context.Context, req *authpb.ForgotPasswordRequest) (*authpb.ForgotPasswordResponse, error) {
	c.note(ctx, "ForgotPassword")
	forgot := &latchkeyv1.ForgotPasswordRequest{Email: req.GetEmail()}
	err := protovalidate.Validate(forgot)
	if err != nil {
		err = c.backend.cfg.Invalid(err)
	} else {
		err = c.backend.accounts.ForgotPassword(ctx, req.GetEmail())
	}
	if err != nil {
		switch known := c.backend.cfg.Refusal(err); {
		case known == nil:
			return nil, err
		case known.Reason != latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED && known.Reason != latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED:
			return nil, err
		}
	}
	return &authpb.ForgotPasswordResponse{Success: true, Message: textResetMailed}, nil
}

// ResetPassword implements auth.AuthService.
func (c *contract) ResetPassword(ctx context.Context, req *authpb.ResetPasswordRequest) (*authpb.ResetPasswordResponse, error) {
	c.note(ctx, "ResetPassword")
	if err := c.backend.accounts.ResetPassword(ctx, req.GetToken(), req.GetNewPassword(), byProto); err != nil {
		return nil, c.inOldWords(err)
	}
	return &authpb.ResetPasswordResponse{Success: true, Message: textReset}, nil
}

// ValidateToken implements auth.AuthService.
func (c *contract) ValidateToken(ctx context.Context, req *authpb.ValidateTokenRequest) (*authpb.ValidateTokenResponse, error) {
	c.note(ctx, "ValidateToken")
	v, err := c.backend.validation.Validate(ctx, req.GetAccessToken(), validate.ForServices)
	if err != nil {
		return nil, err
	}
	switch v.Reason {
	case latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return &authpb.ValidateTokenResponse{Valid: true, User: oldUser(v.User), Message: textTokenValid}, nil
	case latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND:
		return &authpb.ValidateTokenResponse{Message: textUserGone}, nil
	case latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		return &authpb.ValidateTokenResponse{Message: textUserDisabled}, nil
	default:
		return &authpb.ValidateTokenResponse{Message: textNotValid}, nil
	}
}

// note logs each client once an hour, so that the operator knows when the old
// contract can go. The metrics count its calls.
func (c *contract) note(ctx context.Context, method string) {
	who := client{address: caller.From(ctx).AddressText()}
	if agent := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agent) > 0 {
		who.userAgent = agent[0][:min(len(agent[0]), maxUserAgent)]
	}
	now := c.backend.cfg.Now()
	if !c.isDue(who, now) {
		return
	}
	c.backend.log.InfoContext(ctx, "a client uses the old contract", "method", method,
		"address", who.address, "user_agent", who.userAgent, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID)
}

// isDue says whether to log the client now.
func (c *contract) isDue(who client, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.noted[who]; ok && now.Sub(last) < clientNoted {
		return false
	}
	if len(c.noted) >= clientsNoted {
		clear(c.noted)
	}
	c.noted[who] = now
	return true
}

// inOldWords gives a refusal the code and text that the old contract has for it.
// Others, and the details, stay as they are.
func (c *contract) inOldWords(err error) error {
	known := c.backend.cfg.Refusal(err)
	if known == nil {
		return err
	}
	reworded := *known
	switch known.Reason {
	case latchkeyv1.ErrorReason_ERROR_REASON_EMAIL_TAKEN:
		reworded.Message = textEmailTaken
	case latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS:
		reworded.Message = textWrongPassword
	case latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		reworded.Message = textDisabled
	case latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED:
		reworded.Code, reworded.Message = codes.PermissionDenied, textTooManyFailures
	case latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID:
		reworded.Message = textResetInvalid
	default:
		return err
	}
	return &reworded
}

func oldUser(u *latchkeyv1.User) *authpb.User {
	return &authpb.User{Id: u.GetId(), Email: u.GetEmail(), FirstName: u.GetFirstName(), LastName: u.GetLastName()}
}
