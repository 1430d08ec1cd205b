package server_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const oldPassword = "Old-Rules-1!"

// oldContract starts a server that took over, and returns a client of the older contract.
func oldContract(t *testing.T) (*testenv.Server, *testenv.ExistingBackend, authpb.AuthServiceClient) {
	t.Helper()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	return s, backend, authpb.NewAuthServiceClient(s.Conn)
}

// wantText checks the code and the text that people see.
func wantText(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("got %v, want %s %q", err, code, text)
	}
}

// TestOldContract checks the answers of the older contract, with their texts.
func TestOldContract(t *testing.T) {
	t.Parallel()
	s, backend, old := oldContract(t)
	ctx := t.Context()
	newcomer := &authpb.SignUpRequest{Email: "New.Comer@example.com", Password: oldPassword, FirstName: "Mary-Jane", LastName: "O'Neil"}

	signed, err := old.SignUp(ctx, newcomer)
	if err != nil || !signed.GetSuccess() || signed.GetMessage() != "User registered successfully" || signed.GetUser().GetEmail() != newcomer.GetEmail() ||
		signed.GetUser().GetFirstName() != "Mary-Jane" || signed.GetUser().GetLastName() != "O'Neil" {
		t.Fatalf("sign up: %v, %v", signed, err)
	}
	_, err = old.SignUp(ctx, newcomer)
	wantText(t, err, codes.AlreadyExists, "email already registered")

	login, err := old.Login(ctx, &authpb.LoginRequest{Email: newcomer.GetEmail(), Password: oldPassword})
	if err != nil || login.GetUser().GetId() != signed.GetUser().GetId() || login.GetExpiresIn() != int64(testenv.AccessTokenTTL.Seconds()) {
		t.Fatalf("log in: %v, %v", login.GetExpiresIn(), err)
	}
	_, err = old.Login(ctx, &authpb.LoginRequest{Email: newcomer.GetEmail(), Password: "wrong"})
	wantText(t, err, codes.Unauthenticated, "invalid email or password")
	_, err = old.Login(ctx, &authpb.LoginRequest{Email: "nobody@example.com", Password: "wrong"})
	wantText(t, err, codes.Unauthenticated, "invalid email or password")

	disabled := backend.User(t, "nora7@example.com")
	_, err = old.Login(ctx, &authpb.LoginRequest{Email: disabled.Email, Password: disabled.Password})
	wantText(t, err, codes.PermissionDenied, "account is disabled")
	_, err = old.Login(ctx, &authpb.LoginRequest{Email: disabled.Email, Password: "wrong"})
	wantText(t, err, codes.Unauthenticated, "invalid email or password")

	// Its tokens are good in both contracts.
	valid, err := old.ValidateToken(ctx, &authpb.ValidateTokenRequest{AccessToken: login.GetAccessToken()})
	if err != nil || !valid.GetValid() || valid.GetMessage() != "token is valid" || valid.GetUser().GetEmail() != newcomer.GetEmail() {
		t.Errorf("validate: %v, %v", valid, err)
	}
	wantValid(t, s, login.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	next := refresh(t, s, login.GetRefreshToken(), "")
	logOut(t, s, next.GetRefreshToken())
	for _, token := range []string{login.GetAccessToken(), login.GetRefreshToken(), "x", strings.Repeat("x", 2000)} {
		bad, err := old.ValidateToken(ctx, &authpb.ValidateTokenRequest{AccessToken: token})
		if err != nil || bad.GetValid() || bad.GetUser() != nil || bad.GetMessage() != "invalid or expired token" {
			t.Errorf("a bad token: %v, %v", bad, err)
		}
	}
	for token, text := range map[string]string{"": "token is required", strings.Repeat("x", 2001): "token is too long"} {
		_, err := old.ValidateToken(ctx, &authpb.ValidateTokenRequest{AccessToken: token})
		wantText(t, err, codes.InvalidArgument, text)
	}
}

func TestOldContractOfDisabledAndDeletedAccounts(t *testing.T) {
	t.Parallel()
	s, _, old := oldContract(t)
	for _, c := range []struct{ change, text string }{
		{"UPDATE users SET is_active = false WHERE email = 'out@example.com'", "user account is disabled"},
		{"DELETE FROM users WHERE email = 'out@example.com'", "user not found"},
	} {
		_, _ = old.SignUp(t.Context(), &authpb.SignUpRequest{Email: "out@example.com", Password: oldPassword, FirstName: "Ada", LastName: "Lee"})
		execSQL(t, s, "UPDATE users SET is_active = true WHERE email = 'out@example.com'")
		settled(t, s)
		login, err := old.Login(t.Context(), &authpb.LoginRequest{Email: "out@example.com", Password: oldPassword})
		if err != nil {
			t.Fatal(err)
		}
		execSQL(t, s, c.change)
		testenv.Eventually(t, patience, c.text, func() bool {
			resp, err := old.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: login.GetAccessToken()})
			return err == nil && !resp.GetValid() && resp.GetMessage() == c.text
		})
	}
}

func TestOldContractLimitsFailures(t *testing.T) {
	t.Parallel()
	_, backend, old := oldContract(t)
	user := backend.User(t, "nora0@example.com")
	for range 5 {
		_, err := old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: "wrong"})
		wantText(t, err, codes.Unauthenticated, "invalid email or password")
	}
	_, err := old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: user.Password})
	wantText(t, err, codes.PermissionDenied, "too many failed login attempts, please try again later")
	if reasonIn(err) != "RATE_LIMITED" {
		t.Errorf("the reason is %q", reasonIn(err))
	}
}

// It has its own rules for passwords and names, and no others. A password that latchkey.v1 calls too common is accepted
// if it has the four kinds of characters.
func TestOldContractRules(t *testing.T) {
	t.Parallel()
	_, _, old := oldContract(t)
	good := func() *authpb.SignUpRequest {
		return &authpb.SignUpRequest{Email: "rules@example.com", Password: oldPassword, FirstName: "Ada", LastName: "Lee"}
	}
	const short, long = "password must be at least 8 characters long", "password must not exceed 128 characters"
	for name, c := range map[string]struct {
		spoil func(*authpb.SignUpRequest)
		text  string
	}{
		"short":           {func(r *authpb.SignUpRequest) { r.Password = "Aa1!aaa" }, short},
		"long":            {func(r *authpb.SignUpRequest) { r.Password = "Aa1!" + strings.Repeat("x", 125) }, long},
		"no upper case":   {func(r *authpb.SignUpRequest) { r.Password = "old-rules-1!" }, "password must contain at least one uppercase letter"},
		"no lower case":   {func(r *authpb.SignUpRequest) { r.Password = "OLD-RULES-1!" }, "password must contain at least one lowercase letter"},
		"no digit":        {func(r *authpb.SignUpRequest) { r.Password = "Old-Rules-!!" }, "password must contain at least one number"},
		"no special":      {func(r *authpb.SignUpRequest) { r.Password = "OldRules1234" }, "password must contain at least one special character"},
		"special of none": {func(r *authpb.SignUpRequest) { r.Password = "OldRules123§" }, "password must contain at least one special character"},
		"NUL":             {func(r *authpb.SignUpRequest) { r.Password = "Old-Rules-1!\x00" }, "password must not contain NUL"},
		"name of one":     {func(r *authpb.SignUpRequest) { r.FirstName = "A" }, "first_name must be at least 2 characters long"},
		"name too long":   {func(r *authpb.SignUpRequest) { r.LastName = strings.Repeat("a", 101) }, "last_name must not exceed 100 characters"},
		"name with digit": {func(r *authpb.SignUpRequest) { r.LastName = "Lee2" }, "last_name contains invalid characters"},
		"name not ASCII":  {func(r *authpb.SignUpRequest) { r.FirstName = "Zoë" }, "first_name contains invalid characters"},
		"name of lines":   {func(r *authpb.SignUpRequest) { r.FirstName = "Ada\n" }, "first_name contains invalid characters"},
		"no email":        {func(r *authpb.SignUpRequest) { r.Email = "" }, "email is required"},
		"email of words":  {func(r *authpb.SignUpRequest) { r.Email = "ada lee@example.com" }, "invalid email format"},
		"email too long": {func(r *authpb.SignUpRequest) {
			r.Email = strings.Repeat("a", 60) + "@" + strings.Repeat("b.", 97) + "c"
		}, "email must not exceed 255 characters"},
	} {
		req := good()
		c.spoil(req)
		_, err := old.SignUp(t.Context(), req)
		t.Log(name)
		wantText(t, err, codes.InvalidArgument, c.text)
		if reasonIn(err) != "VALIDATION_FAILED" {
			t.Errorf("the reason is %q", reasonIn(err))
		}
	}
	for i, password := range []string{"Aa1!aaaa", "P@ssw0rd", "Aa1!" + strings.Repeat("x", 124), "Aa1~ with spaces and ü"} {
		req := good()
		req.Email, req.Password = strings.Repeat("x", i+1)+req.GetEmail(), password
		if _, err := old.SignUp(t.Context(), req); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestOldContractResets(t *testing.T) {
	t.Parallel()
	s, backend, old := oldContract(t)
	user := backend.User(t, "nora0@example.com")
	const told = "If your email is registered, you will receive a password reset link"
	// The sixth for one address sends nothing, and has the same answer.
	for _, address := range append([]string{"nobody@example.com", "a..b@example.com", strings.Repeat(" ", 1000) + "spaces@example.com", user.Email}, slices.Repeat([]string{"x@example.com"}, 6)...) {
		resp, err := old.ForgotPassword(t.Context(), &authpb.ForgotPasswordRequest{Email: address})
		if err != nil || !resp.GetSuccess() || resp.GetMessage() != told {
			t.Errorf("%.20q: %v, %v", address, resp, err)
		}
	}
	for address, text := range map[string]string{
		"no address": "invalid email format", "": "email is required", strings.Repeat("x", 300): "email must not exceed 255 characters",
		"a\x00b@example.com": "invalid email format", "x@x": "invalid email format",
	} {
		_, err := old.ForgotPassword(t.Context(), &authpb.ForgotPasswordRequest{Email: address})
		wantText(t, err, codes.InvalidArgument, text)
	}
	testenv.Eventually(t, patience, "the mail has come", func() bool { return len(s.Mailbox.Messages()) == 1 })
	resetToken := linkToken(t, s.Mailbox.Messages()[0])

	session := oldLogin(t, old, user.Email, user.Password)
	_, err := old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{NewPassword: "P@ssw0rd"})
	wantText(t, err, codes.InvalidArgument, "token is required")
	for _, token := range []string{"x", resetToken + "x"} {
		_, err := old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: token, NewPassword: "P@ssw0rd"})
		wantText(t, err, codes.InvalidArgument, "invalid or expired reset token")
	}
	if _, err := old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: resetToken, NewPassword: "weak"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a weak password: %v", err)
	}
	resp, err := old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: resetToken, NewPassword: "P@ssw0rd"})
	if err != nil || !resp.GetSuccess() || resp.GetMessage() != "Password reset successfully" {
		t.Fatalf("reset: %v, %v", resp, err)
	}
	_, err = old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: resetToken, NewPassword: "P@ssw0rd"})
	wantText(t, err, codes.InvalidArgument, "invalid or expired reset token")
	wantValid(t, s, session.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	oldLogin(t, old, user.Email, "P@ssw0rd")
}

// Names, types and numbers are those with which the clients were built.
func TestOldContractNumbers(t *testing.T) {
	t.Parallel()
	for message, want := range map[protoreflect.ProtoMessage]string{
		&authpb.User{}:                   "id string, email string, first_name string, last_name string",
		&authpb.SignUpRequest{}:          "email string, password string, first_name string, last_name string",
		&authpb.SignUpResponse{}:         "success bool, message string, user message",
		&authpb.LoginRequest{}:           "email string, password string",
		&authpb.LoginResponse{}:          "access_token string, refresh_token string, expires_in int64, user message",
		&authpb.ForgotPasswordRequest{}:  "email string",
		&authpb.ForgotPasswordResponse{}: "success bool, message string",
		&authpb.ResetPasswordRequest{}:   "token string, new_password string",
		&authpb.ResetPasswordResponse{}:  "success bool, message string",
		&authpb.ValidateTokenRequest{}:   "access_token string",
		&authpb.ValidateTokenResponse{}:  "valid bool, user message, message string",
	} {
		descriptor := message.ProtoReflect().Descriptor()
		var got []string
		for i := range descriptor.Fields().Len() {
			field := descriptor.Fields().Get(i)
			if int(field.Number()) != i+1 {
				t.Errorf("%s has the number %d", field.FullName(), field.Number())
			}
			got = append(got, string(field.Name())+" "+field.Kind().String())
		}
		if fields := strings.Join(got, ", "); fields != want {
			t.Errorf("%s: %s, want %s", descriptor.FullName(), fields, want)
		}
	}
	if name := authpb.AuthService_ServiceDesc.ServiceName; name != "auth.AuthService" {
		t.Errorf("the service is %s", name)
	}
}

// Without the setting the older contract is not there.
func TestOldContractIsOnlyServedForATakeover(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, err := authpb.NewAuthServiceClient(s.Conn).ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: "x"})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

// It logs each client once an hour, with the name that the client gives.
func TestOldContractLogsItsClients(t *testing.T) {
	t.Parallel()
	s, _, _ := oldContract(t)
	notes := func() int { return bytes.Count(s.Logs.Bytes(), []byte("a client uses the older contract")) }
	call := func(agent string) {
		client := authpb.NewAuthServiceClient(testenv.Dial(t, s.Addr, grpc.WithUserAgent(agent)))
		_, _ = client.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: "x"})
		_, _ = client.ForgotPassword(t.Context(), &authpb.ForgotPasswordRequest{Email: "x@x"})
	}
	call("billing/1.2")
	call("billing/1.2")
	if notes() != 1 || !bytes.Contains(s.Logs.Bytes(), []byte("billing/1.2")) {
		t.Errorf("%d notes", notes())
	}
	call("shop/3" + strings.Repeat("x", 10_000))
	s.Clock.Advance(time.Hour)
	call("billing/1.2")
	if notes() != 3 || bytes.Contains(s.Logs.Bytes(), bytes.Repeat([]byte("x"), 300)) {
		t.Errorf("%d notes", notes())
	}
}

func oldLogin(t *testing.T, old authpb.AuthServiceClient, address, pass string) *authpb.LoginResponse {
	t.Helper()
	resp, err := old.Login(context.WithoutCancel(t.Context()), &authpb.LoginRequest{Email: address, Password: pass})
	if err != nil {
		t.Fatalf("log in %s: %v", address, err)
	}
	return resp
}
