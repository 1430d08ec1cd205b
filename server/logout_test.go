package server_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func tryLogout(ctx context.Context, s *testenv.Server, refreshToken string) error {
	_, err := s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: refreshToken})
	return err
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	first := account(t, s)
	other := logIn(t, s, email)
	second := refresh(t, s, first.GetRefreshToken(), "")
	logOut(t, s, second.GetRefreshToken())
	for _, at := range []*testenv.Server{s, replica} {
		for _, access := range []string{first.GetAccessToken(), second.GetAccessToken()} {
			wantValid(t, at, access, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
		}
		for _, spent := range []string{first.GetRefreshToken(), second.GetRefreshToken()} {
			_, err := tryRefresh(t.Context(), at, spent, "")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		}
		wantValid(t, at, other.GetAccessToken(), 0)
	}
	refresh(t, s, other.GetRefreshToken(), "")
	logOut(t, replica, second.GetRefreshToken()) // twice is fine
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_out' AND session_id = $1", first.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
	longest := s.Clock.Now().Add(testenv.MaxTTL)
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'session' AND keep_until >= $1", longest); n != 1 {
		t.Error("the revocation may be forgotten before what it refuses has expired")
	}
	if n, err := s.Redis.Exists(t.Context(), "latchkey:session:{"+first.GetSessionId()+"}").Result(); err != nil || n != 0 {
		t.Errorf("the session is still in Redis: %d, %v", n, err)
	}
}

func TestLogoutWithASpentToken(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first := account(t, s)
	second := refresh(t, s, first.GetRefreshToken(), "")
	logOut(t, s, first.GetRefreshToken())
	wantValid(t, s, second.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

func TestLogoutRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	good := tokens.GetRefreshToken()
	wantRefused(t, tryLogout(t.Context(), s, ""), codes.InvalidArgument, "VALIDATION_FAILED", "refresh_token")
	wantRefused(t, tryLogout(t.Context(), s, strings.Repeat("x", 4097)), codes.InvalidArgument, "VALIDATION_FAILED", "refresh_token")
	for name, bad := range map[string]string{
		"garbage":      "garbage",
		"access token": tokens.GetAccessToken(),
		"truncated":    good[:len(good)-1],
		"forged":       flip(good, len(good)-10),
		"session id":   tokens.GetSessionId(),
	} {
		t.Log(name)
		wantRefused(t, tryLogout(t.Context(), s, bad), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	wantValid(t, s, tokens.GetAccessToken(), 0)
	// An unknown session looks like a forged token.
	if err := s.Redis.Del(t.Context(), "latchkey:session:{"+tokens.GetSessionId()+"}").Err(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, tryLogout(t.Context(), s, good), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
}

// The caller hangs up, and the session is still ended.
func TestLogoutGoesOnAlone(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	// The lock on the head row makes the revocation wait until the caller is gone.
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT seq FROM ledger_head FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- tryLogout(ctx, s, tokens.GetRefreshToken()) }()
	testenv.Eventually(t, patience, "the revocation waits for the lock", func() bool {
		return count(t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	hangUp()
	if err := <-answer; err == nil {
		t.Fatal("the caller got an answer")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the session has ended", func() bool {
		return count(t, s, "SELECT count(*) FROM revocations WHERE session_id = $1", uuid.MustParse(tokens.GetSessionId())) == 1
	})
	settled(t, s) // no call has waited for it
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

func tryLogoutAll(ctx context.Context, s *testenv.Server, refreshToken string) error {
	_, err := s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: refreshToken, AllSessions: true})
	return err
}

func TestLogoutOfAllSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	first := account(t, s)
	other := logIn(t, s, email)
	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	second := refresh(t, s, first.GetRefreshToken(), "")
	wantValid(t, replica, other.GetAccessToken(), 0)
	if err := tryLogoutAll(t.Context(), s, first.GetRefreshToken()); err != nil { // a spent token of a live session
		t.Fatal(err)
	}
	for _, at := range []*testenv.Server{s, replica} {
		for _, tokens := range []*latchkeyv1.Tokens{first, second, other} {
			wantValid(t, at, tokens.GetAccessToken(), ended)
		}
	}
	// Neither ended session can end the others.
	for _, tokens := range []*latchkeyv1.Tokens{second, other} {
		wantRefused(t, tryLogoutAll(t.Context(), s, tokens.GetRefreshToken()), codes.Unauthenticated, "SESSION_ENDED")
		_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	}
	wantLive(t, s, bob)
	third := logIn(t, s, email)
	wantListed(t, s, third, third)
	wantLive(t, s, third)
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != 1 {
		t.Errorf("%d rows", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'all_sessions_logged_out' AND session_id = $1", first.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
}

func TestLogoutOfAllSessionsRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	thief, owner := account(t, s), logIn(t, s, email)
	logOut(t, s, thief.GetRefreshToken())
	good := owner.GetRefreshToken()
	for name, test := range map[string]struct{ token, reason string }{
		"logged out":   {thief.GetRefreshToken(), "SESSION_ENDED"},
		"garbage":      {"garbage", "REFRESH_TOKEN_INVALID"},
		"forged":       {flip(good, len(good)-10), "REFRESH_TOKEN_INVALID"},
		"access token": {owner.GetAccessToken(), "REFRESH_TOKEN_INVALID"},
	} {
		t.Log(name)
		wantRefused(t, tryLogoutAll(t.Context(), s, test.token), codes.Unauthenticated, test.reason)
	}
	wantRefused(t, tryLogoutAll(t.Context(), s, ""), codes.InvalidArgument, "VALIDATION_FAILED", "refresh_token")
	owner = wantLive(t, s, owner)
	// Nor can a session that has expired.
	s.Clock.Advance(testenv.IdleTTL)
	fresh := logIn(t, s, email)
	wantRefused(t, tryLogoutAll(t.Context(), s, owner.GetRefreshToken()), codes.Unauthenticated, "SESSION_ENDED")
	wantLive(t, s, fresh)
}

// A session that is ended while its call waits ends no others.
func TestLogoutOfAllIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, test := range overtaken() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			thief, owner := device(t, s, "thief"), device(t, s, "owner")
			answer := make(chan error, 1)
			test.hold(t, s, thief, owner, func() { answer <- tryLogoutAll(t.Context(), s, thief.GetRefreshToken()) })
			wantRefused(t, <-answer, codes.Unauthenticated, "SESSION_ENDED")
			if name == "revoked" {
				wantLive(t, s, owner)
			}
		})
	}
}
