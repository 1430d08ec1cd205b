package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	appURL = "https://app.example.com/callback?from=latchkey"
	// The example of RFC 7636, appendix B.
	codeVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	codeChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func tryAuthorize(ctx context.Context, s *testenv.Server, by *latchkeyv1.Tokens, uri string) (string, error) {
	resp, err := s.AccountService.CreateAuthorizationCode(testenv.WithKey(ctx, by.GetAccessToken()), &latchkeyv1.CreateAuthorizationCodeRequest{
		RedirectUri: uri, CodeChallenge: codeChallenge,
	})
	return resp.GetCode(), err
}

func authorize(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) string {
	t.Helper()
	code, err := tryAuthorize(t.Context(), s, by, appURL)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func exchange(ctx context.Context, s *testenv.Server, code string) (*latchkeyv1.ExchangeAuthorizationCodeResponse, error) {
	return s.Auth.ExchangeAuthorizationCode(ctx, &latchkeyv1.ExchangeAuthorizationCodeRequest{
		Code: code, CodeVerifier: codeVerifier, RedirectUri: appURL, DeviceName: "the app",
	})
}

// An app gets a session of its own, which says when and how its owner has logged in at the pages.
func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
	phone, _, _ := guarded(t, s)
	s.Clock.Advance(time.Minute)
	pages := mustAnswer(t, s, withCode(challenge(t, s), phone.code())).GetTokens()
	s.Clock.Advance(5 * time.Minute)
	got, err := exchange(t.Context(), s, authorize(t, s, pages))
	if err != nil || got.GetUser().GetEmail() != email || got.GetTokens().GetSessionId() == pages.GetSessionId() {
		t.Fatalf("%v, %v", got, err)
	}
	login, app := claimsOf(t, s, pages.GetAccessToken()), claimsOf(t, s, got.GetTokens().GetAccessToken())
	if app.ACR != "aal2" || !app.AuthTime.Equal(login.AuthTime) {
		t.Errorf("the app's session has %s of %s, that of the pages %s of %s", app.ACR, app.AuthTime, login.ACR, login.AuthTime)
	}
	// Each ends apart from the other.
	if _, err := s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: pages.GetRefreshToken()}); err != nil {
		t.Fatal(err)
	}
	refreshed := refresh(t, s, got.GetTokens().GetRefreshToken(), "")
	sessions, _ := listPage(t, s, refreshed, 10, "")
	if len(sessions) != 2 || sessions[0].GetDeviceName() != "the app" { // the other is from the enrolment
		t.Errorf("%v", sessions)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'session_handed_over' AND session_id = $1", got.GetTokens().GetSessionId()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// A copy of an access token of one factor makes no session of two once its owner has shown the second one.
func TestAuthorizationCodeHasTheTokensFactors(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
	stolen := account(t, s)
	s.Clock.Advance(time.Minute)
	phone, _ := enrol(t, s, stolen.GetAccessToken())
	s.Clock.Advance(time.Minute)
	if _, err := tryReauthenticate(t.Context(), s, stolen.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
		Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: phone.code()},
	}); err != nil {
		t.Fatal(err)
	}
	got, err := exchange(t.Context(), s, authorize(t, s, stolen))
	if err != nil {
		t.Fatal(err)
	}
	if is := claimsOf(t, s, got.GetTokens().GetAccessToken()); is.ACR != "aal1" {
		t.Errorf("a token of aal1 made a session of %s %v", is.ACR, is.AMR)
	}
}

// A code is for one app, one verifier and one try, for a minute, and for one of a hundred calls over two replicas.
func TestAuthorizationCodeWorksOnce(t *testing.T) {
	t.Parallel()
	pair := twoReplicas(t, testenv.Options{ReturnURLs: []string{appURL, "https://other.example.com/callback"}})
	s := pair[0]
	tokens := account(t, s)
	code := authorize(t, s, tokens)
	wantOneWinner(t, "one code", func(i int) error {
		_, err := exchange(t.Context(), pair[i%2], code)
		return err
	})
	for name, change := range map[string]func(req *latchkeyv1.ExchangeAuthorizationCodeRequest){
		"another verifier":    func(req *latchkeyv1.ExchangeAuthorizationCodeRequest) { req.CodeVerifier = codeChallenge },
		"the challenge's end": func(req *latchkeyv1.ExchangeAuthorizationCodeRequest) { req.CodeVerifier = codeVerifier + "A" },
		"another app's address": func(req *latchkeyv1.ExchangeAuthorizationCodeRequest) {
			req.RedirectUri = "https://other.example.com/callback"
		},
		"another code": func(req *latchkeyv1.ExchangeAuthorizationCodeRequest) { req.Code = codeVerifier },
		"too late":     func(*latchkeyv1.ExchangeAuthorizationCodeRequest) { s.Clock.Advance(time.Minute) },
	} {
		code := authorize(t, s, tokens)
		req := &latchkeyv1.ExchangeAuthorizationCodeRequest{Code: code, CodeVerifier: codeVerifier, RedirectUri: appURL}
		change(req)
		_, err := s.Auth.ExchangeAuthorizationCode(t.Context(), req)
		wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
		if name == "another code" {
			continue
		}
		if _, err := exchange(t.Context(), s, code); err == nil {
			t.Errorf("%s: the code has a second try", name)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM challenges WHERE position($1 in convert_from(coalesce(data, ''), 'UTF8')) > 0", code); n != 0 {
		t.Error("the code is stored")
	}
}

// A code ends with all that ends its session, and with it the app gets nothing.
func TestAuthorizationCodeEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error{
		"logout": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error {
			t.Helper()
			_, err := s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: by.GetRefreshToken()})
			return err
		},
		"a new password": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error {
			t.Helper()
			return tryChange(t.Context(), s, by, password, newPassword)
		},
		"suspension": func(t *testing.T, s *testenv.Server, _ *latchkeyv1.Tokens) error {
			t.Helper()
			execSQL(t, s, "UPDATE users SET is_active = false")
			return nil
		},
		"deletion": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error {
			t.Helper()
			_, err := s.AccountService.DeleteAccount(as(t, by), &latchkeyv1.DeleteAccountRequest{})
			return err
		},
		"a second factor since": func(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error {
			t.Helper()
			enrol(t, s, by.GetAccessToken())
			s.Clock.Advance(time.Second)
			execSQL(t, s, "UPDATE factors SET created_at = created_at - interval '1 hour'") // as if the login came after it
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
			tokens := account(t, s)
			code := authorize(t, s, tokens)
			if err := end(t, s, tokens); err != nil {
				t.Fatal(err)
			}
			_, err := exchange(t.Context(), s, code)
			wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "code")
		})
	}
}

// A session that was spared when the others were ended makes codes that work, and the app's session lasts.
func TestAuthorizationCodeOfASparedSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
	tokens := account(t, s)
	if _, err := s.SessionService.RevokeOtherSessions(as(t, tokens), &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := tryChange(t.Context(), s, tokens, password, newPassword); err != nil {
		t.Fatal(err)
	}
	got, err := exchange(t.Context(), s, authorize(t, s, tokens))
	if err != nil {
		t.Fatal(err)
	}
	refresh(t, s, got.GetTokens().GetRefreshToken(), "")
}

// No app that is not listed gets a code, and no session that was not authenticated lately makes one.
func TestAuthorizationRefused(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
	tokens := account(t, s)
	for _, uri := range []string{
		"https://app.example.com/callback", appURL + "&x=1", appURL + "#", appURL + "/", "https://app.example.com:443/callback?from=latchkey",
		"https://APP.example.com/callback?from=latchkey", "https://app.example.com/./callback?from=latchkey", "//app.example.com/callback?from=latchkey",
		"https://app.example.com/callback?from=latchkey\\@evil.example", "https://app.example.com@evil.example/callback?from=latchkey", " " + appURL,
		"https://app.example.com/callback?from=latchke%79", "javascript:alert(1)",
	} {
		_, err := tryAuthorize(t.Context(), s, tokens, uri)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "redirect_uri")
	}
	s.Clock.Advance(11 * time.Minute)
	_, err := tryAuthorize(t.Context(), s, tokens, appURL)
	wantRefused(t, err, codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")

	none := testenv.Start(t, testenv.Options{})
	_, err = tryAuthorize(t.Context(), none, account(t, none), appURL)
	wantRefused(t, err, codes.FailedPrecondition, "NOT_ENABLED")
}

// Codes of a stolen session must not forgive wrong passwords: its holder could guess the password without a limit.
func TestAttackGuessBetweenCodes(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
	tokens := account(t, s)
	for range 30 {
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "wrong horse battery"})
		if reasonOf(err) == "RATE_LIMITED" {
			return
		}
		if _, err := exchange(t.Context(), s, authorize(t, s, tokens)); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("thirty guesses without a limit")
}
