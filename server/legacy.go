package server

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Legacy is what is honoured of the backends that Latchkey takes over from, whose
// contract is served as well. All fields are required.
type Legacy struct {
	// Tokens checks what they have signed.
	Tokens *legacy.Tokens
	// Store is what they left in Redis.
	Store *legacy.Store
}

// LegacyConfig is what a LegacyBackend works with. All fields are required.
type LegacyConfig struct {
	Legacy   *Legacy
	Pool     *pgxpool.Pool
	Sessions *session.Store
	Keyring  *token.Keyring
	Trail    *audit.Trail
	Logger   *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// LegacyBackend honours what the existing backends left: refresh tokens, resets and counters of failed logins. It
// implements auth.Older, account.Older and login.Older. Use NewLegacyBackend, and Connect before the first call.
type LegacyBackend struct {
	cfg     LegacyConfig
	queries *db.Queries
	trail   *audit.Trail
	log     *slog.Logger

	revoker    *revoke.Revoker
	validation *validate.Validator
	accounts   *account.Accounts
	logins     *login.Flow
}

// NewLegacyBackend returns one that the flows can have as their hook.
func NewLegacyBackend(cfg LegacyConfig) *LegacyBackend {
	return &LegacyBackend{cfg: cfg, queries: db.New(), trail: cfg.Trail, log: cfg.Logger}
}

// Connect gives it the flows that it calls in its turn.
func (s *LegacyBackend) Connect(revoker *revoke.Revoker, validation *validate.Validator, accounts *account.Accounts, logins *login.Flow) {
	s.revoker, s.validation, s.accounts, s.logins = revoker, validation, accounts, logins
}

// Contract returns the service of the existing backends' contract.
func (s *LegacyBackend) Contract() authpb.AuthServiceServer { return newLegacyContract(s) }

// honoursLegacy says whether anything that the existing backends left is taken: until the
// date that was set, whatever they left.
func (s *LegacyBackend) honoursLegacy() bool {
	return s.cfg.Now().Before(s.cfg.Legacy.Tokens.AcceptUntil())
}

// The texts of the old contract. Its clients show them to people: change none.
const (
	legacySignedUp        = "User registered successfully"
	legacyEmailTaken      = "email already registered"
	legacyWrongPassword   = "invalid email or password"
	legacyDisabled        = "account is disabled"
	legacyTooManyFailures = "too many failed login attempts, please try again later"
	legacyResetMailed     = "If your email is registered, you will receive a password reset link"
	legacyResetInvalid    = "invalid or expired reset token"
	legacyReset           = "Password reset successfully"
	legacyTokenValid      = "token is valid"
	legacyNotValid        = "invalid or expired token"
	legacyUserGone        = "user not found"
	legacyUserDisabled    = "user account is disabled"
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

// legacyContract serves the contract of the existing backends (package auth) with
// the handlers of latchkey.v1. What it adds is their words.
type legacyContract struct {
	authpb.UnimplementedAuthServiceServer
	server *LegacyBackend

	mu    sync.Mutex
	noted map[legacyClient]time.Time
}

// legacyClient is somebody who still calls the old contract.
type legacyClient struct{ address, userAgent string }

func newLegacyContract(s *LegacyBackend) *legacyContract {
	return &legacyContract{server: s, noted: map[legacyClient]time.Time{}}
}

// byProto is the account.Rule of the old contract: its proto's rules, which were
// checked before, and no others, since people's forms were built for them.
func byProto(string, string, []string) error { return nil }

// SignUp implements auth.AuthService. Passwords are judged byProto.
func (l *legacyContract) SignUp(ctx context.Context, req *authpb.SignUpRequest) (*authpb.SignUpResponse, error) {
	l.note(ctx, "SignUp")
	user, shown, err := l.server.accounts.SignUp(ctx, account.NewUser{
		Email: req.GetEmail(), Password: req.GetPassword(), FirstName: req.GetFirstName(), LastName: req.GetLastName(),
	}, byProto)
	if err != nil {
		return nil, inLegacyWords(err)
	}
	resp := &authpb.SignUpResponse{Success: true, Message: legacySignedUp}
	if shown {
		resp.User = legacyUser(user.Message())
	}
	return resp, nil
}

// Login implements auth.AuthService.
func (l *legacyContract) Login(ctx context.Context, req *authpb.LoginRequest) (*authpb.LoginResponse, error) {
	l.note(ctx, "Login")
	result, err := l.server.logins.LogIn(ctx, login.Request{Email: req.GetEmail(), Password: req.GetPassword()})
	if err != nil {
		return nil, inLegacyWords(err)
	}
	return &authpb.LoginResponse{
		AccessToken: result.Tokens.Access, RefreshToken: result.Tokens.Refresh,
		ExpiresIn: int64(math.Ceil(result.Tokens.AccessExpireTime.Sub(l.server.cfg.Now()).Seconds())),
		User:      legacyUser(result.User.Message()),
	}, nil
}

// ForgotPassword implements auth.AuthService. The contract knows one answer: what
// latchkey.v1 would refuse, an address of the wrong form or too many mails to one,
// sends nothing.
func (l *legacyContract) ForgotPassword(ctx context.Context, req *authpb.ForgotPasswordRequest) (*authpb.ForgotPasswordResponse, error) {
	l.note(ctx, "ForgotPassword")
	forgot := &latchkeyv1.ForgotPasswordRequest{Email: req.GetEmail()}
	err := protovalidate.Validate(forgot)
	if err != nil {
		err = invalidRequest(err)
	} else {
		err = l.server.accounts.ForgotPassword(ctx, req.GetEmail())
	}
	if err != nil && !refusedFor(err, latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED) {
		return nil, err
	}
	return &authpb.ForgotPasswordResponse{Success: true, Message: legacyResetMailed}, nil
}

// ResetPassword implements auth.AuthService.
func (l *legacyContract) ResetPassword(ctx context.Context, req *authpb.ResetPasswordRequest) (*authpb.ResetPasswordResponse, error) {
	l.note(ctx, "ResetPassword")
	if err := l.server.accounts.ResetPassword(ctx, req.GetToken(), req.GetNewPassword(), byProto); err != nil {
		return nil, inLegacyWords(err)
	}
	return &authpb.ResetPasswordResponse{Success: true, Message: legacyReset}, nil
}

// ValidateToken implements auth.AuthService.
func (l *legacyContract) ValidateToken(ctx context.Context, req *authpb.ValidateTokenRequest) (*authpb.ValidateTokenResponse, error) {
	l.note(ctx, "ValidateToken")
	v, err := l.server.validation.Validate(ctx, req.GetAccessToken(), validate.ForServices)
	if err != nil {
		return nil, err
	}
	switch v.Reason {
	case latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return &authpb.ValidateTokenResponse{Valid: true, User: legacyUser(v.User), Message: legacyTokenValid}, nil
	case latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND:
		return &authpb.ValidateTokenResponse{Message: legacyUserGone}, nil
	case latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		return &authpb.ValidateTokenResponse{Message: legacyUserDisabled}, nil
	default:
		return &authpb.ValidateTokenResponse{Message: legacyNotValid}, nil
	}
}

// note logs each client once an hour, so that the operator knows when the old
// contract can go. The metrics count its calls.
func (l *legacyContract) note(ctx context.Context, method string) {
	client := legacyClient{address: caller.From(ctx).AddressText()}
	if agent := incoming(ctx, "user-agent"); len(agent) > 0 {
		client.userAgent = agent[0][:min(len(agent[0]), maxUserAgent)]
	}
	now := l.server.cfg.Now()
	if !l.isDue(client, now) {
		return
	}
	l.server.log.InfoContext(ctx, "a client uses the old contract", "method", method,
		"address", client.address, "user_agent", client.userAgent, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID)
}

// isDue says whether to log the client now.
func (l *legacyContract) isDue(client legacyClient, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.noted[client]; ok && now.Sub(last) < clientNoted {
		return false
	}
	if len(l.noted) >= clientsNoted {
		clear(l.noted)
	}
	l.noted[client] = now
	return true
}

// inLegacyWords gives a refusal the code and text that the old contract has for it.
// Others, and the details, stay as they are.
func inLegacyWords(err error) error {
	known := refusalIn(err)
	if known == nil {
		return err
	}
	reworded := *known
	switch known.Reason {
	case latchkeyv1.ErrorReason_ERROR_REASON_EMAIL_TAKEN:
		reworded.Message = legacyEmailTaken
	case latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS:
		reworded.Message = legacyWrongPassword
	case latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		reworded.Message = legacyDisabled
	case latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED:
		reworded.Code, reworded.Message = codes.PermissionDenied, legacyTooManyFailures
	case latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID:
		reworded.Message = legacyResetInvalid
	default:
		return err
	}
	return &reworded
}

func legacyUser(u *latchkeyv1.User) *authpb.User {
	return &authpb.User{Id: u.GetId(), Email: u.GetEmail(), FirstName: u.GetFirstName(), LastName: u.GetLastName()}
}
