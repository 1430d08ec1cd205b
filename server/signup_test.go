package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func trySignUp(ctx context.Context, s *testenv.Server, address, pass string) error {
	_, err := s.Auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: address, Password: pass, FirstName: "A", LastName: "B"})
	return err
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	if user.GetEmail() != email || user.GetFirstName() != "Ada" || user.GetLastName() != "Lovelace" || user.GetEmailVerified() ||
		len(user.GetId()) != 36 || !user.GetCreateTime().AsTime().Equal(s.Clock.Now()) {
		t.Errorf("got %v", user)
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE email_lookup = lower($1) AND password_hash LIKE '$argon2id$v=19$m=64,t=1,p=1$%'", email); n != 1 {
		t.Error("the row is not what was asked for")
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'signed_up' AND user_id = $1 AND address = '127.0.0.1' AND length(trace_id) = 32", user.GetId()); n != 1 {
		t.Error("no audit event")
	}
}

func TestSignUpTakesWhatIsAllowed(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for _, req := range []*latchkeyv1.SignUpRequest{
		{Email: "a@b", Password: "8 chars!", FirstName: "O'Neil", LastName: "Jean-Luc"},
		{Email: "jörg@münchen.example", Password: strings.Repeat("ключ-", 25), FirstName: "Jörg", LastName: "李"},
		{Email: "a+tag.x_y%z@sub.example.co.uk", Password: "pässwörter sind lang", FirstName: strings.Repeat("é", 100), LastName: "x"},
		{Email: strings.Repeat("l", 64) + "@" + strings.Repeat("d", 63) + ".example", Password: "🔑🔑🔑🔑🐎🐎🐎🐎", FirstName: "می\u200cخواهم", LastName: " x "},
	} {
		resp, err := s.Auth.SignUp(t.Context(), req)
		if err != nil {
			t.Errorf("%s: %v", req.GetEmail(), err)
			continue
		}
		if resp.GetUser().GetEmail() != req.GetEmail() || resp.GetUser().GetFirstName() != req.GetFirstName() {
			t.Errorf("%s came back as %v", req.GetEmail(), resp.GetUser())
		}
		if _, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: req.GetEmail(), Password: req.GetPassword()}); err != nil {
			t.Errorf("%s cannot log in: %v", req.GetEmail(), err)
		}
	}
}

func TestSignUpRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	type change func(*latchkeyv1.SignUpRequest)
	long := strings.Repeat("x", 15<<10)
	for name, test := range map[string]struct {
		change change
		code   codes.Code
		reason string
		fields []string
	}{
		"nothing at all": {func(r *latchkeyv1.SignUpRequest) { r.Reset() }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email", "password", "first_name", "last_name"}},
		"no at":          {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada.example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"two ats":        {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada@b@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"space":          {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada lovelace@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"header":         {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada@example.com\r\nBcc: x@y.z" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"display name":   {func(r *latchkeyv1.SignUpRequest) { r.Email = "Ada <ada@example.com>" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"list":           {func(r *latchkeyv1.SignUpRequest) { r.Email = "a@example.com,b@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"two dots":       {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada..l@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"long local":     {func(r *latchkeyv1.SignUpRequest) { r.Email = strings.Repeat("l", 65) + "@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"dot at the end": {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada@example.com." }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"long address":   {func(r *latchkeyv1.SignUpRequest) { r.Email = "a@" + strings.Repeat("d.", 127) + "com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"NUL address":    {func(r *latchkeyv1.SignUpRequest) { r.Email = "ada\x00@example.com" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"short password": {func(r *latchkeyv1.SignUpRequest) { r.Password = "7 chars" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
		// Eight code points as typed, four after NFC.
		"short after NFC":   {func(r *latchkeyv1.SignUpRequest) { r.Password = "e\u0301e\u0301e\u0301e\u0301" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
		"long password":     {func(r *latchkeyv1.SignUpRequest) { r.Password = strings.Repeat("p", 129) }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
		"NUL password":      {func(r *latchkeyv1.SignUpRequest) { r.Password = "correct\x00horse" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
		"common password":   {func(r *latchkeyv1.SignUpRequest) { r.Password = "PassWord123" }, codes.InvalidArgument, "PASSWORD_TOO_COMMON", []string{"password"}},
		"own address":       {func(r *latchkeyv1.SignUpRequest) { r.Email, r.Password = "grace.hopper@example.com", "Grace.Hopper1" }, codes.InvalidArgument, "PASSWORD_TOO_COMMON", []string{"password"}},
		"blank name":        {func(r *latchkeyv1.SignUpRequest) { r.FirstName = "  \u00a0" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"first_name"}},
		"long name":         {func(r *latchkeyv1.SignUpRequest) { r.LastName = strings.Repeat("n", 101) }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"last_name"}},
		"NUL name":          {func(r *latchkeyv1.SignUpRequest) { r.FirstName = "A\x00da" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"first_name"}},
		"line in name":      {func(r *latchkeyv1.SignUpRequest) { r.LastName = "Love\nlace" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"last_name"}},
		"turned name":       {func(r *latchkeyv1.SignUpRequest) { r.LastName = "Love\u202elace" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"last_name"}},
		"15 KiB of address": {func(r *latchkeyv1.SignUpRequest) { r.Email = long }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"15 KiB of password": {func(r *latchkeyv1.SignUpRequest) {
			r.Password = long
		}, codes.InvalidArgument, "VALIDATION_FAILED", []string{"password"}},
		"taken":              {func(r *latchkeyv1.SignUpRequest) { r.Email = email }, codes.AlreadyExists, "EMAIL_TAKEN", nil},
		"taken in lower":     {func(r *latchkeyv1.SignUpRequest) { r.Email = strings.ToLower(email) }, codes.AlreadyExists, "EMAIL_TAKEN", nil},
		"taken in upper":     {func(r *latchkeyv1.SignUpRequest) { r.Email = strings.ToUpper(email) }, codes.AlreadyExists, "EMAIL_TAKEN", nil},
		"taken, bad request": {func(r *latchkeyv1.SignUpRequest) { r.Email, r.FirstName = email, "" }, codes.InvalidArgument, "VALIDATION_FAILED", []string{"first_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := &latchkeyv1.SignUpRequest{Email: "new@example.com", Password: password, FirstName: "A", LastName: "B"}
			test.change(req)
			_, err := s.Auth.SignUp(t.Context(), req)
			wantRefused(t, err, test.code, test.reason, test.fields...)
			if req.GetPassword() != "" && strings.Contains(status.Convert(err).String(), req.GetPassword()) {
				t.Error("the password is in the answer")
			}
		})
	}
	t.Cleanup(func() {
		var n int
		if err := s.Pool.QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&n); err == nil && n != 1 {
			t.Errorf("%d accounts, want 1", n)
		}
	})
}

// TestTextThatIsNotUTF8 checks that gRPC itself refuses such text, before any interceptor.
func TestTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	// Field 1 (email) with the bytes ff fe, which a proto3 string cannot hold.
	err := s.Conn.Invoke(t.Context(), latchkeyv1.AuthService_SignUp_FullMethodName, rawMessage("\x0a\x02\xff\xfe"), &latchkeyv1.SignUpResponse{}, rawCodec())
	if code := status.Code(err); code != codes.Internal {
		t.Fatalf("code %v (%v), want gRPC's own INTERNAL", code, err)
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != 0 {
		t.Error("an account was made")
	}
}

// Many sign-ups with one address in any letter case make one account.
func TestSignUpAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	const callers = 100
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			address := strings.ToLower(email)
			at := i % len("ada")
			address = address[:at] + strings.ToUpper(address[at:at+1]) + address[at+1:]
			_, errs[i] = s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: address, Password: password, FirstName: "A", LastName: "B"})
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		wantRefused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
	}
	if n := count(t, s, "SELECT count(*) FROM users"); made != 1 || n != 1 {
		t.Errorf("%d answers said OK, %d accounts are there", made, n)
	}
}
