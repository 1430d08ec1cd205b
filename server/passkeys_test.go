package server_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const passkeyOrigin = "https://app.example.com"

func withPasskeys(t *testing.T) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}})
}

func newAuthenticator(t *testing.T) *testenv.Authenticator {
	t.Helper()
	return testenv.NewAuthenticator(t, passkeyOrigin)
}

func addPasskey(t *testing.T, s *testenv.Server, accessToken string, a *testenv.Authenticator) *latchkeyv1.FinishPasskeyRegistrationResponse {
	t.Helper()
	ctx := testenv.WithKey(t.Context(), accessToken)
	begun, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	done, err := s.AccountService.FinishPasskeyRegistration(ctx, &latchkeyv1.FinishPasskeyRegistrationRequest{
		ChallengeToken: begun.GetChallengeToken(), CredentialJson: a.Create(t, begun.GetOptionsJson()), Name: "my key",
	})
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	return done
}

func withPasskey(token, answer string) *latchkeyv1.AnswerChallengeRequest {
	return &latchkeyv1.AnswerChallengeRequest{
		ChallengeToken: token, Answer: &latchkeyv1.AnswerChallengeRequest_PasskeyJson{PasskeyJson: answer}, DeviceName: "test",
	}
}

func startPasskeyLogin(t *testing.T, s *testenv.Server) *latchkeyv1.StartPasskeyLoginResponse {
	t.Helper()
	begun, err := s.Auth.StartPasskeyLogin(t.Context(), &latchkeyv1.StartPasskeyLoginRequest{})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return begun
}

func passkeyLogin(t *testing.T, s *testenv.Server, a *testenv.Authenticator) (*latchkeyv1.AnswerChallengeResponse, error) {
	t.Helper()
	begun := startPasskeyLogin(t, s)
	return tryAnswer(t.Context(), s, withPasskey(begun.GetChallengeToken(), a.Get(t, begun.GetOptionsJson())))
}

// The whole life of a passkey: registered, used as the first factor and to authenticate again, renamed, removed.
func TestPasskey(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	tokens, key := account(t, s), newAuthenticator(t)
	added := addPasskey(t, s, tokens.GetAccessToken(), key)
	if added.GetPasskey().GetKind() != latchkeyv1.FactorKind_FACTOR_KIND_PASSKEY || added.GetPasskey().GetName() != "my key" || len(added.GetRecoveryCodes()) != 10 {
		t.Errorf("%v", added)
	}
	s.Clock.Advance(time.Minute)
	in, err := passkeyLogin(t, s, key)
	if err != nil {
		t.Fatal(err)
	}
	claims := claimsOf(t, s, in.GetTokens().GetAccessToken())
	if claims.ACR != "aal2" || !slices.Equal(claims.AMR, []string{"pop", "user", "mfa"}) || in.GetUser().GetEmail() != email {
		t.Errorf("%v %s, %v", claims.AMR, claims.ACR, in.GetUser())
	}
	s.Clock.Advance(freshWithin + time.Second)
	me := in.GetTokens().GetAccessToken()
	id := added.GetPasskey().GetId()
	_, err = s.AccountService.RemovePasskey(testenv.WithKey(t.Context(), me), &latchkeyv1.RemovePasskeyRequest{PasskeyId: id})
	wantRefused(t, err, codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
	begun := startPasskeyLogin(t, s)
	again := &latchkeyv1.ReauthenticateRequest{
		Proof:          &latchkeyv1.ReauthenticateRequest_PasskeyJson{PasskeyJson: key.Get(t, begun.GetOptionsJson())},
		ChallengeToken: begun.GetChallengeToken(),
	}
	fresh, err := tryReauthenticate(t.Context(), s, me, again)
	if err != nil {
		t.Fatal(err)
	}
	if claims := claimsOf(t, s, fresh.GetAccessToken()); claims.ACR != "aal2" || !claims.AuthTime.Equal(s.Clock.Now()) {
		t.Errorf("%+v", claims)
	}
	_, err = tryReauthenticate(t.Context(), s, me, again)
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	ctx := testenv.WithKey(t.Context(), fresh.GetAccessToken())
	if _, err := s.AccountService.RenamePasskey(ctx, &latchkeyv1.RenamePasskeyRequest{PasskeyId: id, Name: "the old one"}); err != nil {
		t.Fatal(err)
	}
	list, err := s.AccountService.ListFactors(ctx, &latchkeyv1.ListFactorsRequest{})
	if err != nil || !slices.Equal(kinds(list.GetFactors()), []string{"PASSWORD", "PASSKEY", "RECOVERY_CODES"}) {
		t.Fatalf("%v, %v", list, err)
	}
	if f := list.GetFactors()[1]; f.GetId() != id || f.GetName() != "the old one" || !f.GetLastUseTime().AsTime().Equal(s.Clock.Now()) {
		t.Errorf("%v", f)
	}
	removed, err := s.AccountService.RemovePasskey(ctx, &latchkeyv1.RemovePasskeyRequest{PasskeyId: id})
	if err != nil || !strings.Contains(removed.GetAcceptedCredentialsJson(), `"allAcceptedCredentialIds":[]`) {
		t.Errorf("%v, %v", removed, err)
	}
	_, err = passkeyLogin(t, s, key)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	logIn(t, s, email) // the password is enough again
	for _, kind := range []string{"passkey_added", "passkey_renamed", "passkey_removed"} {
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = $1", kind); n != 1 {
			t.Errorf("%d events %s", n, kind)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM river_job WHERE args::text LIKE '%' || $1 || '%' OR args::text LIKE '%' || $2 || '%'",
		string(mail.PasskeyAdded), string(mail.PasskeyRemoved)); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// A session registers a passkey also after a change that has spared it.
func TestPasskeyOfASparedSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}})
	_, tokens := provenAccount(t, s, email)
	addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
	ctx := testenv.WithKey(t.Context(), tokens.GetAccessToken())
	if _, err := s.SessionService.RevokeOtherSessions(ctx, &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
	if _, err := s.Auth.ChangePassword(ctx, &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: "another horse battery"}); err != nil {
		t.Fatal(err)
	}
	addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
	if err := askChange(ctx, s, "new@example.com"); err != nil {
		t.Fatal(err)
	}
	if err := confirmLink(t.Context(), s, waitChangeMail(t, s, "new@example.com", confirmSubject, 1).token); err != nil {
		t.Fatal(err)
	}
	addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
}

// After a password, the passkey is the second factor. Only what it did this time is claimed.
func TestPasskeyAsSecondFactor(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	for _, c := range []struct {
		unverified bool
		amr        []string
	}{{false, []string{"pwd", "pop", "user", "mfa"}}, {true, []string{"pwd", "pop", "mfa"}}} {
		key.Options.UserNotVerified = c.unverified
		asked, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
		if err != nil || asked.GetTokens() != nil || !slices.Equal(kinds(asked.GetChallenge().GetFactors()), []string{"PASSKEY", "RECOVERY_CODES"}) {
			t.Fatalf("%v, %v", asked, err)
		}
		req := withPasskey(asked.GetChallenge().GetChallengeToken(), key.Get(t, asked.GetChallenge().GetOptionsJson()))
		if claims := claimsOf(t, s, mustAnswer(t, s, req).GetTokens().GetAccessToken()); claims.ACR != "aal2" || !slices.Equal(claims.AMR, c.amr) {
			t.Errorf("%v %s", claims.AMR, claims.ACR)
		}
		_, err = tryAnswer(t.Context(), s, req)
		wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	}
	// UV=0 is not enough where nothing but the passkey is asked for.
	_, err := passkeyLogin(t, s, key)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
}

// The challenge after a password takes no passkey once the account's sessions were ended, or its ten minutes are over. Its
// token does not grow with the passkeys, so twenty do not make it longer than an answer may carry.
func TestChallengeEndsForPasskeys(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens){
		"ten minutes": func(_ *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) { s.Clock.Advance(10 * time.Minute) },
		"a password by plain SQL": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET password_hash = 'x'")
		},
		"other sessions revoked": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) {
			t.Helper()
			if _, err := s.SessionService.RevokeOtherSessions(as(t, by), &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"suspended and back": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) {
			t.Helper()
			execSQL(t, s, "UPDATE users SET is_active = false")
			execSQL(t, s, "UPDATE users SET is_active = true")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := withPasskeys(t)
			key, tokens := newAuthenticator(t), account(t, s)
			addPasskey(t, s, tokens.GetAccessToken(), key)
			ask := func() *latchkeyv1.Challenge {
				t.Helper()
				resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
				if err != nil {
					t.Fatal(err)
				}
				return resp.GetChallenge()
			}
			alone := ask()
			addPasskey(t, s, mustAnswer(t, s, withPasskey(alone.GetChallengeToken(), key.Get(t, alone.GetOptionsJson()))).GetTokens().GetAccessToken(), newAuthenticator(t))
			asked := ask()
			if one, two := len(alone.GetChallengeToken()), len(asked.GetChallengeToken()); two > one+20 || two > 1024 { // numbers have digits
				t.Errorf("tokens of %d and %d characters", one, two)
			}
			end(t, s, tokens)
			_, err := tryAnswer(t.Context(), s, withPasskey(asked.GetChallengeToken(), key.Get(t, asked.GetOptionsJson())))
			wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
		})
	}
}

func TestPasskeyAnswerIsNotReplayed(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	begun := startPasskeyLogin(t, s)
	answer := key.Get(t, begun.GetOptionsJson())
	mustAnswer(t, s, withPasskey(begun.GetChallengeToken(), answer))
	_, err := tryAnswer(t.Context(), s, withPasskey(begun.GetChallengeToken(), answer))
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	_, err = tryAnswer(t.Context(), s, withPasskey(startPasskeyLogin(t, s).GetChallengeToken(), answer))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	late := startPasskeyLogin(t, s)
	s.Clock.Advance(5 * time.Minute)
	_, err = tryAnswer(t.Context(), s, withPasskey(late.GetChallengeToken(), key.Get(t, late.GetOptionsJson())))
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	// The same for a registration, also after a wrong answer: its challenge is spent before it is looked at.
	in, err := passkeyLogin(t, s, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := as(t, in.GetTokens())
	first, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	other := newAuthenticator(t)
	good := other.Create(t, first.GetOptionsJson())
	_, err = s.AccountService.FinishPasskeyRegistration(ctx, &latchkeyv1.FinishPasskeyRegistrationRequest{ChallengeToken: first.GetChallengeToken(), CredentialJson: "{}"})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "credential_json")
	_, err = s.AccountService.FinishPasskeyRegistration(ctx, &latchkeyv1.FinishPasskeyRegistrationRequest{ChallengeToken: first.GetChallengeToken(), CredentialJson: good})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "challenge_token")
}

// A passkey belongs to one account: nobody can register that of another, or answer the challenge of another with it.
func TestPasskeyOfAnotherAccount(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key, theirs := newAuthenticator(t), newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	signUp(t, s, "bob@example.com")
	other := logIn(t, s, "bob@example.com")
	ctx := as(t, other)
	begun, err := s.AccountService.StartPasskeyRegistration(ctx, &latchkeyv1.StartPasskeyRegistrationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stolen := *key
	_, err = s.AccountService.FinishPasskeyRegistration(ctx, &latchkeyv1.FinishPasskeyRegistrationRequest{
		ChallengeToken: begun.GetChallengeToken(), CredentialJson: stolen.Create(t, begun.GetOptionsJson()),
	})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "credential_json")
	if n := count(t, s, "SELECT count(*) FROM factors"); n != 1 {
		t.Errorf("%d factors", n)
	}
	addPasskey(t, s, other.GetAccessToken(), theirs)
	asked, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tryAnswer(t.Context(), s, withPasskey(asked.GetChallenge().GetChallengeToken(), theirs.Get(t, asked.GetChallenge().GetOptionsJson())))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	login := startPasskeyLogin(t, s)
	_, err = tryReauthenticate(t.Context(), s, other.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_PasskeyJson{PasskeyJson: key.Get(t, login.GetOptionsJson())}, ChallengeToken: login.GetChallengeToken(),
	})
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	// Nor does the handle decide whose passkey it is.
	forged := *key
	forged.Options.UserHandle = theirs.Options.UserHandle
	_, err = passkeyLogin(t, s, &forged)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
}

// The RP id and the origins are settings. What the request says of its host changes nothing.
func TestPasskeyDomainIsASetting(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	evil := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.Addr, grpc.WithAuthority("evil.test")))
	begun, err := evil.StartPasskeyLogin(t.Context(), &latchkeyv1.StartPasskeyLoginRequest{})
	if err != nil || !strings.Contains(begun.GetOptionsJson(), `"rpId":"example.com"`) || strings.Contains(begun.GetOptionsJson(), "evil") {
		t.Fatalf("%v, %v", begun, err)
	}
	for _, origin := range []string{"https://evil.test", "https://app.example.com.evil.test", "https://xapp.example.com", "https://example.com", "http://app.example.com"} {
		phished := *key
		phished.Page.Origin = origin
		_, err := evil.AnswerChallenge(t.Context(), withPasskey(begun.GetChallengeToken(), phished.Get(t, begun.GetOptionsJson())))
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	}
	phished := *key
	phished.Page.ID = "evil.test"
	_, err = evil.AnswerChallenge(t.Context(), withPasskey(begun.GetChallengeToken(), phished.Get(t, begun.GetOptionsJson())))
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
}

// Wrong passwords, wrong codes and wrong answers of others do not keep the owner of a passkey out.
func TestPasskeyOwnerIsNotLockedOut(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	stranger := *key
	stranger.Page.Origin = "https://evil.test"
	for range 12 {
		_, _ = s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "Wrong1horse"})
		_, err := passkeyLogin(t, s, &stranger)
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
	}
	execSQL(t, s, "INSERT INTO factor_failures (user_id, subject, epoch, since, failures, in_a_row) SELECT id, $1, 0, $2, 10, 200 FROM users", uuid.Nil, s.Clock.Now())
	if _, err := passkeyLogin(t, s, key); err != nil {
		t.Error(err)
	}
}

// A count that falls back may be a copy, or an authenticator that was restored: it is recorded, and not refused.
func TestPasskeyCountFallsBack(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	key.Key.Counter = 100
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	key.Key.Counter = 5
	if _, err := passkeyLogin(t, s, key); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'passkey_count_fell_back'"); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := count(t, s, "SELECT sign_count FROM passkeys"); n != 100 {
		t.Errorf("the count is %d", n)
	}
	key.Key.Counter = 100
	if _, err := passkeyLogin(t, s, key); err != nil || count(t, s, "SELECT sign_count FROM passkeys") != 101 {
		t.Errorf("%v", err)
	}
}

func TestLastPasskeyStays(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key, second := newAuthenticator(t), newAuthenticator(t)
	first := addPasskey(t, s, account(t, s).GetAccessToken(), key).GetPasskey().GetId()
	execSQL(t, s, "UPDATE users SET password_hash = '!'") // ends the session
	in, err := passkeyLogin(t, s, key)
	if err != nil {
		t.Fatal(err)
	}
	me := in.GetTokens()
	remove := func(id string) error {
		_, err := s.AccountService.RemovePasskey(as(t, me), &latchkeyv1.RemovePasskeyRequest{PasskeyId: id})
		return err
	}
	wantRefused(t, remove(first), codes.FailedPrecondition, "LAST_FACTOR")
	if _, err := passkeyLogin(t, s, key); err != nil {
		t.Errorf("it was removed: %v", err)
	}
	addPasskey(t, s, me.GetAccessToken(), second)
	if err := remove(first); err != nil {
		t.Error(err)
	}
	if _, err := passkeyLogin(t, s, second); err != nil {
		t.Error(err)
	}
}

// A suspended account's passkey gives no session, and that it is suspended shows only after the right answer.
func TestPasskeyOfASuspendedAccount(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	execSQL(t, s, "UPDATE users SET is_active = false")
	_, err := passkeyLogin(t, s, key)
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
	key.Options.UserNotVerified = true
	_, err = passkeyLogin(t, s, key)
	wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "passkey_json")
}

func TestPasskeysTurnedOff(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, err := s.Auth.StartPasskeyLogin(t.Context(), &latchkeyv1.StartPasskeyLoginRequest{})
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
	_, err = s.AccountService.StartPasskeyRegistration(as(t, account(t, s)), &latchkeyv1.StartPasskeyRegistrationRequest{})
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
}

// Of a hundred calls with one challenge, over two replicas, one gets a session.
func TestOneSessionForAPasskeyAnswer(t *testing.T) {
	t.Parallel()
	s := withPasskeys(t)
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, PasskeyOrigins: []string{passkeyOrigin}})
	key := newAuthenticator(t)
	addPasskey(t, s, account(t, s).GetAccessToken(), key)
	begun := startPasskeyLogin(t, s)
	asked, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*latchkeyv1.AnswerChallengeRequest{
		"the first factor":  withPasskey(begun.GetChallengeToken(), key.Get(t, begun.GetOptionsJson())),
		"the second factor": withPasskey(asked.GetChallenge().GetChallengeToken(), key.Get(t, asked.GetChallenge().GetOptionsJson())),
	} {
		const callers = 100
		errs := make(chan error, callers)
		for i := range callers {
			at := []*testenv.Server{s, replica}[i%2]
			go func() {
				_, err := tryAnswer(context.WithoutCancel(t.Context()), at, req)
				errs <- err
			}()
		}
		won := 0
		for range callers {
			switch err := <-errs; reasonOf(err) {
			case "":
				won++
			case "CHALLENGE_INVALID":
			default:
				t.Errorf("%s: %v", name, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d sessions", name, won)
		}
	}
}

// A passkey proves no address: where a proof is required, it logs nobody in before that, alone or after the password.
func TestPasskeyLoginWaitsForProof(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{PasskeyOrigins: []string{passkeyOrigin}, EmailVerification: "optional"})
	user := signUp(t, s, email)
	waitLetter(t, s, email, 1)
	key := newAuthenticator(t)
	addPasskey(t, s, logIn(t, s, email).GetAccessToken(), key)
	strict := testenv.Start(t, testenv.Options{
		DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, Sender: s.Mailbox,
		PasskeyOrigins: []string{passkeyOrigin}, EmailVerification: "required",
	})
	s.Clock.Advance(time.Minute)
	before := len(sessionKeys(t, s))
	for range 2 { // also the second time, with an answer that is as good
		_, err := passkeyLogin(t, strict, key)
		wantRefused(t, err, codes.FailedPrecondition, "EMAIL_NOT_VERIFIED")
	}
	wantRefused(t, tryLogin(t.Context(), strict, email, password), codes.FailedPrecondition, "EMAIL_NOT_VERIFIED")
	if n := len(sessionKeys(t, s)); n != before {
		t.Errorf("%d sessions have begun", n-before)
	}
	// The mail that was sent anew proves it, with the password so that the passkey stays.
	l := waitLetter(t, s, email, 2)
	if _, err := strict.Auth.VerifyEmail(t.Context(), &latchkeyv1.VerifyEmailRequest{Token: &l.token, Password: new(password)}); err != nil {
		t.Fatal(err)
	}
	if in, err := passkeyLogin(t, strict, key); err != nil || in.GetUser().GetId() != user.GetId() || !in.GetUser().GetEmailVerified() {
		t.Errorf("%v, %v", in, err)
	}
}
