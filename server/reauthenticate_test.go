package server_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// freshWithin is the default of LATCHKEY_FRESH_WITHIN.
const freshWithin = 10 * time.Minute

func tryReauthenticate(ctx context.Context, s *testenv.Server, accessToken string, req *latchkeyv1.ReauthenticateRequest) (*latchkeyv1.ReauthenticateResponse, error) {
	return s.AccountService.Reauthenticate(testenv.WithKey(ctx, accessToken), req)
}

func withPassword(text string) *latchkeyv1.ReauthenticateRequest {
	return &latchkeyv1.ReauthenticateRequest{Proof: &latchkeyv1.ReauthenticateRequest_Password{Password: text}}
}

// reauthenticate returns the access token that Reauthenticate answers to the right password.
func reauthenticate(t *testing.T, s *testenv.Server, accessToken string) string {
	t.Helper()
	resp, err := tryReauthenticate(t.Context(), s, accessToken, withPassword(password))
	if err != nil {
		t.Fatalf("reauthenticate: %v", err)
	}
	return resp.GetAccessToken()
}

// askFresh makes ListSessions ask for a fresh authentication, and returns a call of it.
func askFresh(s *testenv.Server, policy *latchkeyv1.Policy) func(t *testing.T, accessToken string) error {
	policy.Auth = latchkeyv1.AuthClass_AUTH_CLASS_SESSION
	s.Server.SetPolicy(latchkeyv1.SessionService_ListSessions_FullMethodName, policy)
	return func(t *testing.T, accessToken string) error {
		t.Helper()
		_, err := s.SessionService.ListSessions(testenv.WithKey(t.Context(), accessToken), &latchkeyv1.ListSessionsRequest{})
		return err
	}
}

// Methods that ask for a fresh authentication take the token of a login for ten minutes, and then only that of a
// Reauthenticate. Refreshes keep its time, and older access tokens do not become fresh.
func TestFreshAuthentication(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	call := askFresh(s, &latchkeyv1.Policy{FreshWithin: &durationpb.Duration{}})
	tokens := account(t, s)
	if err := call(t, tokens.GetAccessToken()); err != nil {
		t.Errorf("after the login: %v", err)
	}
	s.Clock.Advance(freshWithin)
	if err := call(t, tokens.GetAccessToken()); err != nil {
		t.Errorf("after ten minutes: %v", err)
	}
	s.Clock.Advance(time.Second)
	wantRefused(t, call(t, tokens.GetAccessToken()), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
	refreshed := refresh(t, s, tokens.GetRefreshToken(), "")
	wantRefused(t, call(t, refreshed.GetAccessToken()), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")

	fresh := reauthenticate(t, s, refreshed.GetAccessToken())
	if err := call(t, fresh); err != nil {
		t.Errorf("after Reauthenticate: %v", err)
	}
	for _, old := range []*latchkeyv1.Tokens{tokens, refreshed} {
		wantValid(t, s, old.GetAccessToken(), 0)
		wantRefused(t, call(t, old.GetAccessToken()), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
	}
	next := refresh(t, s, refreshed.GetRefreshToken(), "")
	if err := call(t, next.GetAccessToken()); err != nil {
		t.Errorf("a refresh after Reauthenticate: %v", err)
	}
	s.Clock.Advance(freshWithin)
	last := refresh(t, s, next.GetRefreshToken(), "")
	s.Clock.Advance(time.Second)
	wantRefused(t, call(t, last.GetAccessToken()), codes.FailedPrecondition, "FRESH_LOGIN_REQUIRED")
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'reauthenticated' AND session_id = $1", tokens.GetSessionId()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// What the tokens of a password login and of a Reauthenticate say about it.
func TestAuthenticationClaims(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	before := claimsOf(t, s, tokens.GetAccessToken())
	s.Clock.Advance(time.Minute)
	resp, err := tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), withPassword(password))
	if err != nil {
		t.Fatal(err)
	}
	after := claimsOf(t, s, resp.GetAccessToken())
	for _, claims := range []*accesstoken.Claims{before, after} {
		if !slices.Equal(claims.AMR, []string{"pwd"}) || claims.ACR != "aal1" {
			t.Errorf("amr %v, acr %q", claims.AMR, claims.ACR)
		}
	}
	if got := after.AuthTime.Sub(before.AuthTime); got != time.Minute {
		t.Errorf("auth_time moved by %v", got)
	}
	if after.SessionID != before.SessionID || after.Position != before.Position || after.ID == before.ID {
		t.Errorf("%+v after %+v", after, before)
	}
	if !resp.GetAccessExpireTime().AsTime().Equal(after.ExpireTime) || resp.GetAccountToken() != "" {
		t.Errorf("answered %v", resp)
	}
}

// With LATCHKEY_ACCOUNT_AUDIENCE both tokens come anew, and only the account token may reauthenticate.
func TestReauthenticateWithAccountAudience(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AccountAudience: "https://auth.example.com"})
	call := askFresh(s, &latchkeyv1.Policy{FreshWithin: durationpb.New(time.Minute)})
	tokens := account(t, s)
	s.Clock.Advance(2 * time.Minute)
	_, err := tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), withPassword(password))
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	resp, err := tryReauthenticate(t.Context(), s, tokens.GetAccountToken(), withPassword(password))
	if err != nil {
		t.Fatal(err)
	}
	if err := call(t, resp.GetAccountToken()); err != nil {
		t.Error(err)
	}
	wantValid(t, s, resp.GetAccessToken(), 0)
	wantRefused(t, call(t, resp.GetAccessToken()), codes.Unauthenticated, "TOKEN_INVALID")
}

// A password alone never counts as two factors, however often it is typed.
func TestFactorRequired(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	call := askFresh(s, &latchkeyv1.Policy{Factors: 2, FreshWithin: durationpb.New(time.Minute)})
	tokens := account(t, s)
	wantRefused(t, call(t, tokens.GetAccessToken()), codes.FailedPrecondition, "FACTOR_REQUIRED")
	wantRefused(t, call(t, reauthenticate(t, s, tokens.GetAccessToken())), codes.FailedPrecondition, "FACTOR_REQUIRED")
}

// Guesses by Reauthenticate and by ChangePassword are one count: a stolen access token gives five guesses in all, and
// they lock nobody else out.
func TestReauthenticateCountsGuesses(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stolen := account(t, s)
	owner := logIn(t, s, email)
	for range 3 {
		_, err := tryReauthenticate(t.Context(), s, stolen.GetAccessToken(), withPassword("wrong horse battery"))
		wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	for range 2 {
		wantRefused(t, tryChange(t.Context(), s, stolen, "wrong horse battery", newPassword), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	_, err := tryReauthenticate(t.Context(), s, stolen.GetAccessToken(), withPassword(password))
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	wantRefused(t, tryChange(t.Context(), s, stolen, password, newPassword), codes.ResourceExhausted, "RATE_LIMITED")
	reauthenticate(t, s, owner.GetAccessToken())
	logIn(t, s, email)
}

// A session that has ended gets no new token, and one that Redis has lost has to log in again.
func TestReauthenticateRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	out, lost, live := account(t, s), logIn(t, s, email), logIn(t, s, email)
	logOut(t, s, out.GetRefreshToken())
	_, err := tryReauthenticate(t.Context(), s, out.GetAccessToken(), withPassword(password))
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	_, err = s.AccountService.Reauthenticate(t.Context(), withPassword(password))
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	_, err = tryReauthenticate(t.Context(), s, live.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "proof")
	if err := s.Redis.Del(t.Context(), "latchkey:session:{"+lost.GetSessionId()+"}").Err(); err != nil {
		t.Fatal(err)
	}
	_, err = tryReauthenticate(t.Context(), s, lost.GetAccessToken(), withPassword(password))
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	reauthenticate(t, s, live.GetAccessToken())
}

// A revocation during a Reauthenticate refuses the token that it answers with: the session keeps its position.
func TestReauthenticateOutrunsNoRevocation(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	fresh := reauthenticate(t, s, tokens.GetAccessToken())
	execSQL(t, s, "UPDATE users SET is_active = false")
	execSQL(t, s, "UPDATE users SET is_active = true")
	settled(t, s)
	wantValid(t, s, fresh, ended)
}
