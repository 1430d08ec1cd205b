package backend

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

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
	// textUnreadable is followed by the fault in the bytes, such as invalid UTF-8.
	textUnreadable = "grpc: error unmarshalling request: "
)

const (
	// clientNoted is the least time between two log entries about one client.
	clientNoted = time.Hour
	// clientsNoted bounds the memory for that, at some 200 bytes each. If there are more clients, they are logged more
	// often.
	clientsNoted = 10_000
	// maxUserAgent is how much of a client's user agent is logged, in bytes.
	maxUserAgent = 200
)

// contract serves the contract of the older backends (package auth) with the handlers of latchkey.v1. It adds only the
// texts of that contract.
type contract struct {
	authpb.UnimplementedAuthServiceServer
	backend *Backend
	rules   *rules

	mu    sync.Mutex
	noted map[client]time.Time
}

// client is a client that still calls the old contract.
type client struct{ address, userAgent string }

func newContract(b *Backend) *contract {
	return &contract{backend: b, rules: newRules(), noted: map[client]time.Time{}}
}

// Register serves the older backends' contract.
func (b *Backend) Register(r grpc.ServiceRegistrar) {
	desc := authpb.AuthService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i, method := range desc.Methods {
		desc.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return method.Handler(srv, ctx, func(m any) error { return read(decode, m) }, interceptor)
		}
	}
	r.RegisterService(&desc, newContract(b))
}

// read decodes a request, and refuses one with a text that is not UTF-8 in the words of the old contract. When gRPC
// decodes a request itself, it refuses in its own words. So gRPC gets a message that accepts any fields, and they are
// read here.
func read(decode func(any) error, request any) error {
	var anything emptypb.Empty
	if err := decode(&anything); err != nil {
		return err
	}
	m, ok := request.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is no message", request)
	}
	if err := proto.Unmarshal(anything.ProtoReflect().GetUnknown(), m); err != nil {
		return status.Error(codes.Internal, textUnreadable+err.Error())
	}
	return nil
}

// byContract is the account.Rule of the old contract. It has no rules beyond those that were checked before, since
// people's forms were built for those.
func byContract(string, string, []string) error { return nil }

// SignUp implements auth.AuthService.
func (c *contract) SignUp(ctx context.Context, req *authpb.SignUpRequest) (*authpb.SignUpResponse, error) {
	c.note(ctx, "SignUp")
	err := firstBroken(
		field{"email", req.GetEmail(), c.rules.newAddress},
		field{"password", req.GetPassword(), c.rules.chosen},
		field{"first_name", req.GetFirstName(), c.rules.firstName},
		field{"last_name", req.GetLastName(), c.rules.lastName},
	)
	if err != nil {
		return nil, err
	}
	user, shown, err := c.backend.accounts.SignUp(ctx, account.NewUser{
		Email: req.GetEmail(), Password: req.GetPassword(), FirstName: req.GetFirstName(), LastName: req.GetLastName(),
	}, byContract)
	if err != nil {
		return nil, c.inOldWords(err)
	}
	resp := &authpb.SignUpResponse{Success: true, Message: textSignedUp}
	if shown {
		resp.User = oldUser(user.Message())
	}
	return resp, nil
}

// Login implements auth.AuthService. An address that the rules refuse may still be that of an account: the Rust backend
// and latchkey.v1 accept more. Its owner can log in. Everybody else gets the text of the rules, so that the answer does
// not reveal whether there is such an account.
func (c *contract) Login(ctx context.Context, req *authpb.LoginRequest) (*authpb.LoginResponse, error) {
	c.note(ctx, "Login")
	refused := firstBroken(field{"email", req.GetEmail(), c.rules.address})
	if refused != nil && (req.GetPassword() == "" || !couldBeStored(req.GetEmail())) {
		return nil, refused
	}
	if err := firstBroken(field{"password", req.GetPassword(), c.rules.typed}); err != nil {
		return nil, err
	}
	result, err := c.backend.logins.LogIn(ctx, login.Request{Email: req.GetEmail(), Password: req.GetPassword()})
	if known := c.backend.cfg.Refusal(err); refused != nil && known != nil && isOfGuess(known.Reason) {
		return nil, refused
	}
	if err != nil {
		return nil, c.inOldWords(err)
	}
	return &authpb.LoginResponse{
		AccessToken: result.Tokens.Access, RefreshToken: result.Tokens.Refresh,
		ExpiresIn: int64(math.Ceil(result.Tokens.AccessExpireTime.Sub(c.backend.cfg.Now()).Seconds())),
		User:      oldUser(result.User.Message()),
	}, nil
}

// isOfGuess reports whether a login was refused because its password is wrong, or because earlier ones were.
func isOfGuess(reason latchkeyv1.ErrorReason) bool {
	return reason == latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS || reason == latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED
}

// ForgotPassword implements auth.AuthService. The answer does not depend on whether there is an account, whether mails
// can be sent to the address, or how many were sent.
func (c *contract) ForgotPassword(ctx context.Context, req *authpb.ForgotPasswordRequest) (*authpb.ForgotPasswordResponse, error) {
	c.note(ctx, "ForgotPassword")
	if err := firstBroken(field{"email", req.GetEmail(), c.rules.address}); err != nil {
		return nil, err
	}
	if couldBeStored(req.GetEmail()) { // without a thousand spaces around it
		err := c.backend.accounts.ForgotPassword(ctx, req.GetEmail())
		if known := c.backend.cfg.Refusal(err); err != nil && (known == nil || !isOfAddress(known.Reason)) {
			return nil, err
		}
	}
	return &authpb.ForgotPasswordResponse{Success: true, Message: textResetMailed}, nil
}

// isOfAddress reports whether no mail was sent because of the address: its form, or the number of mails to it.
func isOfAddress(reason latchkeyv1.ErrorReason) bool {
	return reason == latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED || reason == latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED
}

// ResetPassword implements auth.AuthService.
func (c *contract) ResetPassword(ctx context.Context, req *authpb.ResetPasswordRequest) (*authpb.ResetPasswordResponse, error) {
	c.note(ctx, "ResetPassword")
	err := firstBroken(
		field{"token", req.GetToken(), c.rules.token},
		field{"new_password", req.GetNewPassword(), c.rules.chosen},
	)
	if err != nil {
		return nil, err
	}
	if err := c.backend.accounts.ResetPassword(ctx, req.GetToken(), req.GetNewPassword(), byContract); err != nil {
		return nil, c.inOldWords(err)
	}
	return &authpb.ResetPasswordResponse{Success: true, Message: textReset}, nil
}

// ValidateToken implements auth.AuthService.
func (c *contract) ValidateToken(ctx context.Context, req *authpb.ValidateTokenRequest) (*authpb.ValidateTokenResponse, error) {
	c.note(ctx, "ValidateToken")
	if err := firstBroken(field{"access_token", req.GetAccessToken(), c.rules.token}); err != nil {
		return nil, err
	}
	v, err := c.backend.validation.Validate(ctx, withoutLineBreaks(req.GetAccessToken()), validate.ForServices)
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

// withoutLineBreaks returns a token as the Go backend reads it: that backend ignores line breaks in the signature, such
// as one at the end of a file. Line breaks elsewhere are part of the signed text.
func withoutLineBreaks(token string) string {
	signature := strings.LastIndexByte(token, '.') + 1
	return token[:signature] + strings.NewReplacer("\r", "", "\n", "").Replace(token[signature:])
}

// note logs each client once an hour, so that the operator knows when the old contract is no longer needed. The metrics
// count its calls.
func (c *contract) note(ctx context.Context, method string) {
	who := client{address: caller.From(ctx).AddressText()}
	if agent := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agent) > 0 {
		who.userAgent = agent[0][:min(len(agent[0]), maxUserAgent)]
	}
	now := c.backend.cfg.Now()
	if !c.isDue(who, now) {
		return
	}
	c.backend.log.InfoContext(ctx, "a client uses the older contract", "method", method,
		"address", who.address, "user_agent", who.userAgent, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID)
}

// isDue reports whether to log the client now.
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

// inOldWords gives a refusal the code and text that the old contract has for it. Other refusals, and the details, are
// not changed.
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
