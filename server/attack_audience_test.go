package server_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latchkey-auth/latchkey/authverify"
	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const accountAudience = "https://auth.example.com/account"

// asOwner makes calls with the session's account token.
func asOwner(t *testing.T, tokens *latchkeyv1.Tokens) context.Context {
	t.Helper()
	if tokens.GetAccountToken() == "" {
		t.Fatal("no account token")
	}
	return testenv.WithKey(t.Context(), tokens.GetAccountToken())
}

// accountMethods returns all methods that act on the account of the token.
func accountMethods(s *testenv.Server) (list []string) {
	for method, policy := range s.Server.Policies() {
		if policy.GetAuth() == latchkeyv1.AuthClass_AUTH_CLASS_SESSION {
			list = append(list, method)
		}
	}
	return list
}

// wantServiceRefused shows a token to every method about accounts, as a service could that the token was sent to.
func wantServiceRefused(t *testing.T, s *testenv.Server, shown string) {
	t.Helper()
	methods := accountMethods(s)
	if len(methods) < 5 {
		t.Fatalf("methods: %v", methods)
	}
	for _, method := range methods {
		err := s.Conn.Invoke(testenv.WithKey(t.Context(), shown), method, &emptypb.Empty{}, &emptypb.Empty{})
		wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
		if !strings.Contains(status.Convert(err).Message(), "account_token") {
			t.Errorf("%s does not say what to send: %v", method, err)
		}
	}
}

// A service shows here a token that a user has sent to it. It can end no session, see none, and change nothing. A token
// for the account is good for no service.
func TestAttack19ServiceThatIsShownAToken(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{AccountAudience: accountAudience, Legacy: backend, WallClock: true})
	signUp(t, s, email)
	mine, other := logIn(t, s, email), logIn(t, s, email)
	old := authpb.NewAuthServiceClient(s.Conn)
	conn := testenv.Dial(t, s.Addr)
	service, err := authverify.NewVerifier(authverify.Config{
		Issuer: testenv.Issuer, Audience: testenv.Audience, JWKSURL: s.HTTP + "/.well-known/jwks.json",
		Conn: conn, ServiceKey: testenv.ServiceKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	if err := service.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Twice, in turns: the cached result for a token must not depend on the purpose of the first check.
	for range 2 {
		wantServiceRefused(t, s, mine.GetAccessToken())
		wantValid(t, s, mine.GetAccessToken(), 0)
		if _, err := service.Verify(t.Context(), mine.GetAccessToken()); err != nil {
			t.Errorf("a service refuses the access token: %v", err)
		}
		sessions, err := s.SessionService.ListSessions(asOwner(t, mine), &latchkeyv1.ListSessionsRequest{})
		if err != nil || len(sessions.GetSessions()) != 2 {
			t.Errorf("the owner sees %v, %v", sessions, err)
		}
		wantValid(t, s, mine.GetAccountToken(), invalid)
		if resp, err := old.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: mine.GetAccountToken()}); err != nil || resp.GetValid() {
			t.Errorf("the older contract: %v, %v", resp, err)
		}
		if _, err := service.Verify(t.Context(), mine.GetAccountToken()); err == nil {
			t.Error("a service accepts the account token")
		}
	}
	// Tokens of older backends were sent to services too. A trade makes an account token.
	for _, sess := range backend.Sessions {
		wantServiceRefused(t, s, sess.AccessToken)
	}
	byGo, _ := oldTokens(t, backend)
	traded := refresh(t, s, byGo.RefreshToken, "")
	if _, err := s.SessionService.ListSessions(asOwner(t, traded), &latchkeyv1.ListSessionsRequest{}); err != nil {
		t.Errorf("after a trade: %v", err)
	}
	// It lives and ends with its session.
	if _, err := s.SessionService.RevokeSession(asOwner(t, mine), &latchkeyv1.RevokeSessionRequest{SessionId: other.GetSessionId()}); err != nil {
		t.Fatal(err)
	}
	_, err = s.SessionService.ListSessions(asOwner(t, other), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	if _, err := s.Auth.ChangePassword(asOwner(t, mine), &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword}); err != nil {
		t.Errorf("change the password: %v", err)
	}
	suspend(t, s, wantValid(t, s, mine.GetAccessToken(), 0).GetUser().GetId())
	_, err = s.SessionService.ListSessions(asOwner(t, mine), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
}

// Account tokens come with every answer that has tokens. A repeat has the same ones, and they expire at the same time.
func TestAccountTokens(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AccountAudience: accountAudience})
	tokens := account(t, s)
	next := refresh(t, s, tokens.GetRefreshToken(), "")
	again := refresh(t, s, tokens.GetRefreshToken(), "")
	seen := map[string]bool{}
	for _, one := range []*latchkeyv1.Tokens{tokens, next} {
		for _, text := range []string{one.GetAccessToken(), one.GetAccountToken(), one.GetRefreshToken()} {
			seen[text] = true
		}
	}
	if len(seen) != 6 || again.GetAccountToken() != next.GetAccountToken() || again.GetAccessToken() != next.GetAccessToken() {
		t.Errorf("%d tokens, the repeat is another answer: %v", len(seen), slices.Collect(maps.Keys(seen)))
	}
	for _, one := range []*latchkeyv1.Tokens{tokens, next} {
		if _, err := s.SessionService.ListSessions(asOwner(t, one), &latchkeyv1.ListSessionsRequest{}); err != nil {
			t.Error(err)
		}
	}
	// A replica without the setting issues none, and accepts access tokens for both purposes.
	tokens = logIn(t, s, email)
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	_, err := replica.SessionService.ListSessions(asOwner(t, tokens), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	if _, err := replica.SessionService.ListSessions(as(t, tokens), &latchkeyv1.ListSessionsRequest{}); err != nil {
		t.Error(err)
	}
	if plain := refresh(t, replica, tokens.GetRefreshToken(), ""); plain.GetAccountToken() != "" {
		t.Error("an account token for no audience")
	}
	s.Clock.Set(next.GetAccessExpireTime().AsTime())
	_, err = s.SessionService.ListSessions(asOwner(t, next), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_EXPIRED")
}
