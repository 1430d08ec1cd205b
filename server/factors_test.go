package server_test

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// app is an authenticator app with the seed of an account.
type app struct {
	seed []byte
	now  func() time.Time
}

// code returns the code that the app shows now. The clock of a test's server stands still, so a test that needs another
// one advances it.
func (a app) code() string { return totp.Code(a.seed, totp.Step(a.now())) }

// next returns a code that was not shown before.
func (a app) next(s *testenv.Server) string {
	s.Clock.Advance(totp.Period)
	return a.code()
}

// shownApp returns an authenticator app with the seed that was shown to a fresh session. It is not confirmed.
func shownApp(t testing.TB, s *testenv.Server, accessToken string) app {
	t.Helper()
	shown, err := s.AccountService.EnrollTotp(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatalf("enrol: %v", err)
	}
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(shown.GetSecret())
	if err != nil {
		t.Fatal(err)
	}
	return app{seed, s.Clock.Now}
}

// enrol gives an account an authenticator app and recovery codes, on the authority of a fresh session.
func enrol(t testing.TB, s *testenv.Server, accessToken string) (app, []string) {
	t.Helper()
	a := shownApp(t, s, accessToken)
	confirmed, err := s.AccountService.ConfirmTotp(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.ConfirmTotpRequest{Code: a.code()})
	if err != nil {
		t.Fatalf("confirm: %v", err)
	}
	return a, confirmed.GetRecoveryCodes()
}

// guarded makes an account with a second factor, and returns its app, its recovery codes and its first session.
func guarded(t *testing.T, s *testenv.Server) (app, []string, *latchkeyv1.Tokens) {
	t.Helper()
	tokens := account(t, s)
	a, recovery := enrol(t, s, tokens.GetAccessToken())
	return a, recovery, tokens
}

// challenge logs in with the right password and returns the token of the challenge.
func challenge(t *testing.T, s *testenv.Server) string {
	t.Helper()
	return challengeOf(t, s, password, "")
}

// challengeOf is challenge with another password, or with a device token.
func challengeOf(t *testing.T, s *testenv.Server, pass, device string) string {
	t.Helper()
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: pass, DeviceToken: device})
	if err != nil {
		t.Fatalf("log in: %v", err)
	}
	if resp.GetTokens() != nil || resp.GetUser() != nil || resp.GetDeviceToken() != "" || resp.GetChallenge().GetChallengeToken() == "" {
		t.Fatalf("the answer to the password: %v", resp)
	}
	return resp.GetChallenge().GetChallengeToken()
}

func withCode(challengeToken, code string) *latchkeyv1.AnswerChallengeRequest {
	return &latchkeyv1.AnswerChallengeRequest{
		ChallengeToken: challengeToken, Answer: &latchkeyv1.AnswerChallengeRequest_TotpCode{TotpCode: code}, DeviceName: "test",
	}
}

func withRecovery(challengeToken, code string) *latchkeyv1.AnswerChallengeRequest {
	return &latchkeyv1.AnswerChallengeRequest{
		ChallengeToken: challengeToken, Answer: &latchkeyv1.AnswerChallengeRequest_RecoveryCode{RecoveryCode: code},
	}
}

func tryAnswer(ctx context.Context, s *testenv.Server, req *latchkeyv1.AnswerChallengeRequest) (*latchkeyv1.AnswerChallengeResponse, error) {
	return s.Auth.AnswerChallenge(ctx, req)
}

func mustAnswer(t *testing.T, s *testenv.Server, req *latchkeyv1.AnswerChallengeRequest) *latchkeyv1.AnswerChallengeResponse {
	t.Helper()
	resp, err := tryAnswer(t.Context(), s, req)
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	return resp
}

// reasonOf returns the reason of a refusal, "" for no error, and the code of another error.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return status.Code(err).String()
}

// wrongTotp returns a code of six digits that is not good now.
func wrongTotp(a app) string {
	present := totp.Step(a.now())
	for _, code := range []string{"000000", "000001", "000002", "000003"} {
		if code != totp.Code(a.seed, present-1) && code != totp.Code(a.seed, present) && code != totp.Code(a.seed, present+1) {
			return code
		}
	}
	return "000004"
}

// kinds returns the kinds of factors, in their order.
func kinds(list []*latchkeyv1.Factor) (found []string) {
	for _, f := range list {
		found = append(found, strings.TrimPrefix(f.GetKind().String(), "FACTOR_KIND_"))
	}
	return found
}

// The whole life of an authenticator app: enrolled, asked for, listed, removed.
func TestTotp(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	ctx := as(t, tokens)
	shown, err := s.AccountService.EnrollTotp(ctx, &latchkeyv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(shown.GetUri(), "otpauth://totp/") || !strings.Contains(shown.GetUri(), shown.GetSecret()) ||
		!strings.Contains(shown.GetUri(), "Ada.Lovelace%40Example.com") || !strings.HasPrefix(shown.GetQrSvg(), "<svg") {
		t.Errorf("%s, %.40s", shown.GetUri(), shown.GetQrSvg())
	}
	logIn(t, s, email) // nothing has changed until the code
	_, err = s.AccountService.ConfirmTotp(ctx, &latchkeyv1.ConfirmTotpRequest{Code: "000000"})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	seed, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(shown.GetSecret())
	phone := app{seed, s.Clock.Now}
	confirmed, err := s.AccountService.ConfirmTotp(ctx, &latchkeyv1.ConfirmTotpRequest{Code: phone.code()})
	if err != nil || len(confirmed.GetRecoveryCodes()) != 10 {
		t.Fatalf("%v, %v", confirmed.GetRecoveryCodes(), err)
	}
	wantValid(t, s, tokens.GetAccessToken(), 0)
	_, err = s.AccountService.ConfirmTotp(ctx, &latchkeyv1.ConfirmTotpRequest{Code: phone.next(s)})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code") // it was confirmed

	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(resp.GetChallenge().GetFactors()); !slices.Equal(got, []string{"TOTP", "RECOVERY_CODES"}) {
		t.Errorf("the challenge offers %v", got)
	}
	if got := resp.GetChallenge().GetExpireTime().AsTime().Sub(s.Clock.Now()); got != 10*time.Minute {
		t.Errorf("the challenge lives for %v", got)
	}
	answered := mustAnswer(t, s, withCode(resp.GetChallenge().GetChallengeToken(), phone.code()))
	claims := claimsOf(t, s, answered.GetTokens().GetAccessToken())
	if !slices.Equal(claims.AMR, []string{"pwd", "otp", "mfa"}) || claims.ACR != "aal2" {
		t.Errorf("amr %v, acr %q", claims.AMR, claims.ACR)
	}
	if answered.GetUser().GetEmail() != email || answered.GetDeviceToken() == "" {
		t.Errorf("answered %v", answered)
	}
	again := refresh(t, s, answered.GetTokens().GetRefreshToken(), "")
	if claims := claimsOf(t, s, again.GetAccessToken()); claims.ACR != "aal2" {
		t.Errorf("a refresh makes it %q", claims.ACR)
	}

	listed, err := s.AccountService.ListFactors(ctx, &latchkeyv1.ListFactorsRequest{})
	if err != nil || !slices.Equal(kinds(listed.GetFactors()), []string{"PASSWORD", "TOTP", "RECOVERY_CODES"}) {
		t.Fatalf("%v, %v", listed, err)
	}
	if f := listed.GetFactors()[1]; f.GetId() == "" || !f.GetLastUseTime().AsTime().Equal(s.Clock.Now()) || f.GetCreateTime() == nil {
		t.Errorf("%v", f)
	}
	if f := listed.GetFactors()[2]; f.GetRemaining() != 10 || f.GetLastUseTime() != nil {
		t.Errorf("%v", f)
	}
	if _, err := s.AccountService.RemoveTotp(as(t, again), &latchkeyv1.RemoveTotpRequest{}); err != nil {
		t.Fatal(err)
	}
	logIn(t, s, email)
	listed, err = s.AccountService.ListFactors(ctx, &latchkeyv1.ListFactorsRequest{})
	if err != nil || !slices.Equal(kinds(listed.GetFactors()), []string{"PASSWORD"}) {
		t.Errorf("%v, %v", listed, err)
	}
	if _, err := s.AccountService.RemoveTotp(as(t, again), &latchkeyv1.RemoveTotpRequest{}); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	for kind, want := range map[string]int{"factor_added": 1, "factor_removed": 1} {
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = $1", kind); n != want {
			t.Errorf("%d events %s", n, kind)
		}
	}
	testenv.Eventually(t, patience, "the owner is told twice", func() bool { return len(s.Mailbox.Messages()) == 2 })
}

// Each recovery code works once, as people type it, and new ones end those before.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, recovery, tokens := guarded(t, s)
	mustAnswer(t, s, withRecovery(challenge(t, s), " "+strings.ToUpper(strings.ReplaceAll(recovery[0], "-", " "))))
	_, err := tryAnswer(t.Context(), s, withRecovery(challenge(t, s), recovery[0]))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "recovery_code")
	listed, err := s.AccountService.ListFactors(as(t, tokens), &latchkeyv1.ListFactorsRequest{})
	if err != nil || listed.GetFactors()[2].GetRemaining() != 9 || listed.GetFactors()[2].GetLastUseTime() == nil {
		t.Errorf("%v, %v", listed, err)
	}
	made, err := s.AccountService.RegenerateRecoveryCodes(as(t, tokens), &latchkeyv1.RegenerateRecoveryCodesRequest{})
	if err != nil || len(made.GetRecoveryCodes()) != 10 || slices.Contains(made.GetRecoveryCodes(), recovery[1]) {
		t.Fatalf("%v, %v", made, err)
	}
	_, err = tryAnswer(t.Context(), s, withRecovery(challenge(t, s), recovery[1]))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "recovery_code")
	for _, code := range made.GetRecoveryCodes() {
		mustAnswer(t, s, withRecovery(challenge(t, s), code))
	}
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil || !slices.Equal(kinds(resp.GetChallenge().GetFactors()), []string{"TOTP"}) {
		t.Errorf("without codes the challenge offers %v, %v", resp, err)
	}
	testenv.Eventually(t, patience, "each use is told", func() bool {
		told := 0
		for _, m := range s.Mailbox.Messages() {
			if strings.Contains(m.Subject, "was used") {
				told++
			}
		}
		return told == 11
	})
}

// A code is good for one login, whichever challenge it answers and however soon.
func TestTotpCodeIsNotReplayed(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	phone, _, _ := guarded(t, s)
	// The code with which the app was confirmed is used up.
	_, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), phone.code()))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
	code := phone.next(s)
	mustAnswer(t, s, withCode(challenge(t, s), code))
	for _, at := range []*testenv.Server{s, replica} {
		_, err := tryAnswer(t.Context(), at, withCode(challenge(t, at), code))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
	}
	// Nor is that of the step before, which the window would accept.
	older := totp.Code(phone.seed, totp.Step(s.Clock.Now())-1)
	_, err = tryAnswer(t.Context(), s, withCode(challenge(t, s), older))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
	mustAnswer(t, replica, withCode(challenge(t, replica), phone.next(s)))
}

// Of a hundred callers over two replicas, one gets a session: for one challenge, one code of the app, one recovery code.
func TestOneOfAHundred(t *testing.T) {
	t.Parallel()
	const callers = 100
	for name, prepare := range map[string]func(t *testing.T, s *testenv.Server, phone app, recovery []string) func(i int) *latchkeyv1.AnswerChallengeRequest{
		"one code of the app, a challenge for each": func(t *testing.T, s *testenv.Server, phone app, _ []string) func(int) *latchkeyv1.AnswerChallengeRequest {
			t.Helper()
			var tokens []string
			for range callers {
				tokens = append(tokens, challenge(t, s))
			}
			code := phone.code()
			return func(i int) *latchkeyv1.AnswerChallengeRequest { return withCode(tokens[i], code) }
		},
		"one recovery code, a challenge for each": func(t *testing.T, s *testenv.Server, _ app, recovery []string) func(int) *latchkeyv1.AnswerChallengeRequest {
			t.Helper()
			var tokens []string
			for range callers {
				tokens = append(tokens, challenge(t, s))
			}
			return func(i int) *latchkeyv1.AnswerChallengeRequest { return withRecovery(tokens[i], recovery[0]) }
		},
		"one challenge, good answers of both kinds": func(t *testing.T, s *testenv.Server, phone app, recovery []string) func(int) *latchkeyv1.AnswerChallengeRequest {
			t.Helper()
			token, code := challenge(t, s), phone.code()
			return func(i int) *latchkeyv1.AnswerChallengeRequest {
				if i%2 == 0 {
					return withCode(token, code)
				}
				return withRecovery(token, recovery[i%10])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
			phone, recovery, _ := guarded(t, s)
			s.Clock.Advance(totp.Period)
			request := prepare(t, s, phone, recovery)
			errs := make(chan error, callers)
			for i := range callers {
				at := s
				if i%2 == 1 {
					at = replica
				}
				go func() {
					_, err := tryAnswer(context.WithoutCancel(t.Context()), at, request(i))
					errs <- err
				}()
			}
			won := 0
			for range callers {
				switch err := <-errs; reasonOf(err) {
				case "":
					won++
				case "CODE_INVALID", "CHALLENGE_INVALID", "RATE_LIMITED":
				default:
					t.Errorf("%v", err)
				}
			}
			if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); won != 1 || n != 2 { // and the first login
				t.Errorf("%d got a session, %d logins are recorded", won, n-1)
			}
		})
	}
}

// A challenge is bound to its login: it ends after five answers, ten minutes, and with the account's sessions.
func TestChallengeEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *testenv.Server, phone app, token string, by *latchkeyv1.Tokens){
		"answered": func(t *testing.T, s *testenv.Server, phone app, token string, _ *latchkeyv1.Tokens) {
			t.Helper()
			mustAnswer(t, s, withCode(token, phone.code()))
		},
		"five wrong answers": func(t *testing.T, s *testenv.Server, phone app, token string, _ *latchkeyv1.Tokens) {
			t.Helper()
			for range 5 {
				_, err := tryAnswer(t.Context(), s, withCode(token, wrongTotp(phone)))
				wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
			}
		},
		"ten minutes": func(_ *testing.T, s *testenv.Server, _ app, _ string, _ *latchkeyv1.Tokens) {
			s.Clock.Advance(10 * time.Minute)
		},
		"a new password": func(t *testing.T, s *testenv.Server, _ app, _ string, by *latchkeyv1.Tokens) {
			t.Helper()
			if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
				t.Fatal(err)
			}
		},
		"a password by plain SQL": func(t *testing.T, s *testenv.Server, _ app, _ string, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET password_hash = 'x'")
		},
		"other sessions revoked": func(t *testing.T, s *testenv.Server, _ app, _ string, by *latchkeyv1.Tokens) {
			t.Helper()
			if _, err := s.SessionService.RevokeOtherSessions(as(t, by), &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"all sessions of everybody": func(t *testing.T, s *testenv.Server, _ app, _ string, _ *latchkeyv1.Tokens) {
			t.Helper()
			if _, err := s.Admin.RevokeAllSessions(testenv.WithKey(t.Context(), testenv.AdminKey), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"suspended and back": func(t *testing.T, s *testenv.Server, _ app, _ string, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET is_active = false")
			execSQL(t, s, "UPDATE users SET is_active = true")
		},
		"deleted": func(t *testing.T, s *testenv.Server, _ app, _ string, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "DELETE FROM users")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			phone, recovery, tokens := guarded(t, s)
			s.Clock.Advance(totp.Period)
			token := challenge(t, s)
			end(t, s, phone, token, tokens)
			_, err := tryAnswer(t.Context(), s, withRecovery(token, recovery[0]))
			wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
		})
	}
}

// The challenge of one account takes no code of another, and an invented token is no challenge.
func TestChallengeOfAnotherAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, recovery, _ := guarded(t, s)
	signUp(t, s, "eve@example.com")
	hers, herCodes := enrol(t, s, logIn(t, s, "eve@example.com").GetAccessToken())
	s.Clock.Advance(totp.Period)
	token := challenge(t, s)
	for _, req := range []*latchkeyv1.AnswerChallengeRequest{withCode(token, hers.code()), withRecovery(token, herCodes[0])} {
		_, err := tryAnswer(t.Context(), s, req)
		if reasonOf(err) != "CODE_INVALID" {
			t.Errorf("%v", err)
		}
	}
	for _, token := range []string{"x", flip(token, 5), strings.Repeat("A", 43)} {
		_, err := tryAnswer(t.Context(), s, withRecovery(token, recovery[0]))
		wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	}
	mustAnswer(t, s, withCode(token, phone.code()))
	_, err := tryAnswer(t.Context(), s, &latchkeyv1.AnswerChallengeRequest{ChallengeToken: token})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "answer")
}

// Ten wrong codes in 15 minutes limit codes, and never the password, nor a client with a device token, nor another
// session. A new password begins anew.
func TestWrongCodesLimitCodesOnly(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, recovery, tokens := guarded(t, s)
	known := mustAnswer(t, s, withRecovery(challenge(t, s), recovery[0]))
	for range 2 {
		token := challenge(t, s)
		for range 5 {
			_, err := tryAnswer(t.Context(), s, withCode(token, wrongTotp(phone)))
			wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
		}
	}
	_, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), phone.next(s)))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	if wait := retryAfter(t, err); wait <= 0 || wait > 15*time.Minute {
		t.Errorf("wait for %v", wait)
	}
	_, err = tryAnswer(t.Context(), s, withRecovery(challenge(t, s), recovery[1]))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	testenv.Eventually(t, patience, "the owner is told that somebody knows the password", func() bool {
		return slices.ContainsFunc(s.Mailbox.Messages(), func(m mail.Message) bool { return strings.Contains(m.Subject, "knows your password") })
	})
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password, DeviceToken: known.GetDeviceToken()})
	if err != nil {
		t.Fatal(err)
	}
	mustAnswer(t, s, withCode(resp.GetChallenge().GetChallengeToken(), phone.next(s)))
	if _, err := tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: phone.next(s)},
	}); err != nil {
		t.Errorf("a session: %v", err)
	}
	s.Clock.Advance(15 * time.Minute)
	mustAnswer(t, s, withCode(challenge(t, s), phone.next(s)))
}

// After a hundred wrong codes in a row it is ten a day, and a new password begins anew.
func TestAHundredWrongCodes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, _ := guarded(t, s)
	execSQL(t, s, `INSERT INTO factor_failures (user_id, subject, epoch, since, failures, in_a_row)
		SELECT id, '00000000-0000-0000-0000-000000000000', 0, $1, 10, 100 FROM users`, s.Clock.Now())
	s.Clock.Advance(23 * time.Hour)
	_, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), phone.next(s)))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	s.Clock.Advance(time.Hour)
	mustAnswer(t, s, withCode(challenge(t, s), phone.next(s)))
	if n := count(t, s, "SELECT in_a_row FROM factor_failures"); n != 0 {
		t.Errorf("%d in a row after the right code", n)
	}
	execSQL(t, s, "UPDATE factor_failures SET since = $1, failures = 10, in_a_row = 100", s.Clock.Now())
	_, err = tryAnswer(t.Context(), s, withCode(challenge(t, s), phone.next(s)))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	execSQL(t, s, "UPDATE password_guards SET epoch = epoch + 1")
	execSQL(t, s, "INSERT INTO password_guards (user_id, epoch) SELECT id, 1 FROM users ON CONFLICT DO NOTHING")
	mustAnswer(t, s, withCode(challenge(t, s), phone.next(s)))
}

// Calls that change factors want a fresh authentication, and with a second factor one that had it.
func TestChangesOfFactorsAreGuarded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, tokens := guarded(t, s)
	calls := map[string]func(accessToken string) error{
		"EnrollTotp": func(accessToken string) error {
			_, err := s.AccountService.EnrollTotp(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.EnrollTotpRequest{})
			return err
		},
		"RemoveTotp": func(accessToken string) error {
			_, err := s.AccountService.RemoveTotp(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.RemoveTotpRequest{})
			return err
		},
		"RegenerateRecoveryCodes": func(accessToken string) error {
			_, err := s.AccountService.RegenerateRecoveryCodes(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.RegenerateRecoveryCodesRequest{})
			return err
		},
	}
	s.Clock.Advance(freshWithin + time.Second)
	stale := refresh(t, s, tokens.GetRefreshToken(), "").GetAccessToken()
	byPassword := reauthenticate(t, s, stale)
	for name, call := range calls {
		t.Log(name)
		wantRefused(t, call(stale), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
		// The password and a stolen session must not be enough to remove the second factor.
		wantRefused(t, call(byPassword), codes.FailedPrecondition, "FACTOR_REQUIRED")
	}
	resp, err := tryReauthenticate(t.Context(), s, stale, &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: phone.next(s)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if claims := claimsOf(t, s, resp.GetAccessToken()); claims.ACR != "aal2" || !slices.Equal(claims.AMR, []string{"pwd", "otp", "mfa"}) {
		t.Errorf("%v %s", claims.AMR, claims.ACR)
	}
	for _, name := range []string{"EnrollTotp", "RegenerateRecoveryCodes", "RemoveTotp"} {
		if err := calls[name](resp.GetAccessToken()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantRefused(t, calls["RegenerateRecoveryCodes"](resp.GetAccessToken()), codes.FailedPrecondition, "FACTOR_REQUIRED")
	// A code that was used to authenticate again opens no challenge.
	enrolled, _ := enrol(t, s, resp.GetAccessToken())
	code := enrolled.next(s)
	if _, err := tryReauthenticate(t.Context(), s, resp.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: code},
	}); err != nil {
		t.Fatal(err)
	}
	_, err = tryAnswer(t.Context(), s, withCode(challenge(t, s), code))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
}

// A session that confirms a seed has the one that it was shown: another session of the account cannot slip in its own.
func TestEnrolmentOfAnotherSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	mine, other := account(t, s), logIn(t, s, email)
	shown, err := s.AccountService.EnrollTotp(as(t, other), &latchkeyv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(shown.GetSecret())
	_, err = s.AccountService.ConfirmTotp(as(t, mine), &latchkeyv1.ConfirmTotpRequest{Code: app{seed, s.Clock.Now}.code()})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	s.Clock.Advance(30 * time.Minute)
	other = refresh(t, s, other.GetRefreshToken(), "")
	_, err = s.AccountService.ConfirmTotp(as(t, other), &latchkeyv1.ConfirmTotpRequest{Code: app{seed, s.Clock.Now}.code()})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
	logIn(t, s, email)
}

// Nothing in PostgreSQL or Redis is a seed, a recovery code or the token of a challenge, and both secret keys open what
// is sealed.
func TestFactorsAtRest(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Secret: "the first"})
	phone, recovery, _ := guarded(t, s)
	token := challenge(t, s)
	var stored strings.Builder
	for _, table := range []string{"factors", "totp_factors", "recovery_sets", "recovery_codes", "challenges", "audit_events", "river_job"} {
		var rows string
		if err := s.Pool.QueryRow(t.Context(), "SELECT coalesce(string_agg(t::text, ' '), '') FROM "+table+" t").Scan(&rows); err != nil {
			t.Fatal(err)
		}
		stored.WriteString(strings.ToLower(rows))
	}
	all := stored.String()
	for name, secret := range map[string]string{
		"seed": hex.EncodeToString(phone.seed), "secret": strings.ToLower(totp.Secret(phone.seed)), "recovery code": recovery[0],
		"bare recovery code": strings.ReplaceAll(recovery[0], "-", ""), "hex of a recovery code": hex.EncodeToString([]byte(strings.ToUpper(strings.ReplaceAll(recovery[0], "-", "")))),
		"challenge": strings.ToLower(token), "hex of the challenge": hex.EncodeToString([]byte(token)),
	} {
		if strings.Contains(all, secret) {
			t.Errorf("the %s is stored", name)
		}
	}
	rotated := testenv.Start(t, testenv.Options{
		DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Secret: "the second", Previous: "the first",
	})
	mustAnswer(t, rotated, withCode(challenge(t, rotated), phone.next(s)))
	mustAnswer(t, rotated, withRecovery(challenge(t, rotated), recovery[0]))
}

// The token of a challenge is no access token and no refresh token, and opens no method that needs one.
func TestChallengeOpensNothing(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	guarded(t, s)
	token := challenge(t, s)
	for _, method := range accountMethods(s) {
		err := s.Conn.Invoke(testenv.WithKey(t.Context(), token), method, &emptypb.Empty{}, &emptypb.Empty{})
		wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	}
	wantValid(t, s, token, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	_, err := tryRefresh(t.Context(), s, token, "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	if len(sessionKeys(t, s)) != 1 { // that of the enrolment
		t.Error("the challenge has a session")
	}
}

// Only somebody who knows the password learns that an account has a second factor.
func TestSecondFactorIsNoSecretLeak(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	guarded(t, s)
	signUp(t, s, "eve@example.com")
	for _, address := range []string{email, "eve@example.com", "nobody@example.com"} {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: "wrong horse battery"})
		if resp != nil {
			t.Errorf("%s: %v", address, resp)
		}
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
}

// A second factor that a squatter has enrolled does not shut out the owner of the address, who proves it by a reset.
func TestPlantedFactorGoes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, _, squatter := guarded(t, s)
	_, link := resetMail(t, s, email)
	if err := tryReset(t.Context(), s, link, newPassword); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, squatter.GetAccessToken(), ended)
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: newPassword})
	if err != nil || resp.GetTokens() == nil {
		t.Errorf("the owner: %v, %v", resp, err)
	}
	for _, table := range []string{"factors", "totp_factors", "recovery_sets", "recovery_codes"} {
		if n := count(t, s, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// Somebody with a session asks for challenges without end. Each is a row, so an account has 300 of a purpose at a time, and
// is told when the first of them expires. The challenge of a login has a row only after its first code.
func TestAttack19ChallengesInALoop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}, PasskeyOrigins: []string{passkeyOrigin}})
	phone, _, tokens := guarded(t, s)
	const good = 3 * time.Minute
	fill := func(purpose string) {
		t.Helper()
		execSQL(t, s, `INSERT INTO challenges (token_hash, purpose, user_id, ledger, created_at, expires_at)
			SELECT sha256(($1 || i)::bytea), $1, (SELECT id FROM users), 0, $2, $3 FROM generate_series(1, 299) i`, purpose, s.Clock.Now(), s.Clock.Now().Add(good))
	}
	for purpose, ask := range map[string]func() error{
		"authorization": func() error { _, err := tryAuthorize(t.Context(), s, tokens, appURL); return err },
		"passkey_registration": func() error {
			_, err := s.AccountService.StartPasskeyRegistration(as(t, tokens), &latchkeyv1.StartPasskeyRegistrationRequest{})
			return err
		},
	} {
		fill(purpose)
		if err := ask(); err != nil {
			t.Errorf("%s, the 300th: %v", purpose, err)
		}
		err := ask()
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
		if wait := retryAfter(t, err); wait <= 0 || wait > good {
			t.Errorf("%s: again after %v", purpose, wait)
		}
	}
	before := count(t, s, "SELECT count(*) FROM challenges")
	token := challenge(t, s)
	if n := count(t, s, "SELECT count(*) FROM challenges") - before; n != 0 {
		t.Errorf("%d rows for a challenge that nobody has answered", n)
	}
	mustAnswer(t, s, withCode(token, phone.next(s)))
}

// Wrong codes make rows of challenges, and no more rows than wrong codes that were compared: somebody who has the password
// logs in again for each code.
func TestAttack19AnsweredChallenges(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, _, _ := guarded(t, s)
	for range 15 {
		_, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), wrongTotp(phone)))
		if reason := reasonOf(err); reason != "CODE_INVALID" && reason != "RATE_LIMITED" {
			t.Fatal(err)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM challenges"); n != 10 {
		t.Errorf("%d rows for 15 wrong codes, of which 10 were compared", n)
	}
}

// Somebody who knew the password before the second factor has a device token from each login, and each has guesses of its
// own. Together they have fifty a day, with the sessions. The owner is told, can log in on a new device, and gets all back
// after a day or with a new password.
func TestWrongCodesOfAllDevicesAreCounted(t *testing.T) {
	t.Parallel()
	t.Run("a day", func(t *testing.T) {
		t.Parallel()
		s, phone, device := usedUp(t)
		s.Clock.Advance(24 * time.Hour)
		mustAnswer(t, s, withCode(challengeOf(t, s, password, device), phone.next(s)))
	})
	t.Run("a new password", func(t *testing.T) {
		t.Parallel()
		s, phone, _ := usedUp(t)
		owner := mustAnswer(t, s, withCode(challenge(t, s), phone.next(s)))
		if err := tryChange(t.Context(), s, owner.GetTokens(), password, newPassword); err != nil {
			t.Fatal(err)
		}
		again := mustAnswer(t, s, withCode(challengeOf(t, s, newPassword, ""), phone.next(s)))
		mustAnswer(t, s, withCode(challengeOf(t, s, newPassword, again.GetDeviceToken()), phone.next(s)))
	})
}

// usedUp uses the wrong codes of all devices of an account up, and returns one of its device tokens.
func usedUp(t *testing.T) (*testenv.Server, app, string) {
	t.Helper()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	var devices []string
	for range 8 {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, resp.GetDeviceToken())
	}
	phone, _ := enrol(t, s, tokens.GetAccessToken())
	mustAnswer(t, s, withCode(challengeOf(t, s, password, devices[0]), phone.next(s))) // a right code does not count
	var compared atomic.Int64
	var all errgroup.Group
	for _, device := range devices {
		for range 2 {
			token := challengeOf(t, s, password, device)
			all.Go(func() error {
				for range 5 {
					_, err := tryAnswer(t.Context(), s, withCode(token, wrongTotp(phone)))
					switch reasonOf(err) {
					case "CODE_INVALID":
						compared.Add(1)
					case "RATE_LIMITED":
					default:
						return err
					}
				}
				return nil
			})
		}
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := compared.Load(); n != 50 {
		t.Errorf("%d wrong codes were compared, want 50", n)
	}
	_, err := tryAnswer(t.Context(), s, withCode(challengeOf(t, s, password, devices[0]), phone.next(s)))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	if wait := retryAfter(t, err); wait < 23*time.Hour || wait > 24*time.Hour {
		t.Errorf("wait for %v", wait)
	}
	_, err = tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: phone.next(s)},
	})
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	testenv.Eventually(t, patience, "the owner is told", func() bool {
		return slices.ContainsFunc(s.Mailbox.Messages(), func(m mail.Message) bool { return strings.Contains(m.Subject, "knows your password") })
	})
	mustAnswer(t, s, withCode(challenge(t, s), phone.next(s)))
	return s, phone, devices[0]
}

// Wrong codes and right ones of one device at the same time do not wait for each other in a circle.
func TestCodesOfOneDeviceAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	phone, recovery, _ := guarded(t, s)
	known := mustAnswer(t, s, withRecovery(challenge(t, s), recovery[0])).GetDeviceToken()
	answers := make([]*latchkeyv1.AnswerChallengeRequest, 0, 2*len(recovery))
	for _, code := range recovery[1:] {
		for _, answer := range []func(token string) *latchkeyv1.AnswerChallengeRequest{
			func(token string) *latchkeyv1.AnswerChallengeRequest { return withRecovery(token, code) },
			func(token string) *latchkeyv1.AnswerChallengeRequest { return withCode(token, wrongTotp(phone)) },
		} {
			answers = append(answers, answer(challengeOf(t, s, password, known)))
		}
	}
	var all errgroup.Group
	for _, answer := range answers {
		all.Go(func() error {
			_, err := tryAnswer(t.Context(), s, answer)
			if reason := reasonOf(err); !slices.Contains([]string{"", "CODE_INVALID", "RATE_LIMITED"}, reason) {
				t.Errorf("%q: %v", reason, err)
			}
			return nil
		})
	}
	_ = all.Wait()
}
