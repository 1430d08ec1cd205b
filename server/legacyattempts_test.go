package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const oldCounter = "login_attempts:"

// Failures that the Go backend has counted count here, once, until it would have forgotten them.
func TestLegacyAttempts(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	user := backend.User(t, "nora6@example.com") // three failures, for 868 s
	for _, at := range []*testenv.Server{s, replica} {
		wantRefused(t, tryLogin(t.Context(), at, user.Email, "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	for _, at := range []*testenv.Server{s, replica} {
		for _, typed := range []string{user.Email, "NORA6@example.com"} {
			err := tryLogin(t.Context(), at, typed, user.Password)
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if after := retryAfter(t, err); after != 15*time.Minute {
				t.Errorf("again in %v, want when the old counter ends, rounded up to five minutes", after)
			}
		}
	}
	// The old counter does not grow any more, and ends on our clock.
	if got := s.Redis.Get(t.Context(), oldCounter+user.Email).Val(); got != "3" {
		t.Errorf("the old counter holds %s", got)
	}
	s.Redis.Del(t.Context(), oldCounter+user.Email)
	s.Clock.Advance(868 * time.Second)
	if err := tryLogin(t.Context(), s, user.Email, user.Password); err != nil {
		t.Fatal(err)
	}
}

// Failures of strangers at the Go backend do not count against a client with a device token.
func TestLegacyAttemptsOfOthers(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	user := backend.User(t, "nora0@example.com")
	s.Redis.Del(t.Context(), oldCounter+user.Email)
	known, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	s.Redis.Set(t.Context(), oldCounter+user.Email, "5", 10*time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, user.Email, user.Password), codes.ResourceExhausted, "RATE_LIMITED")
	if _, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password, DeviceToken: known.GetDeviceToken()}); err != nil {
		t.Errorf("a known client: %v", err)
	}
}

// A login deletes the old counter with ours, on both sides, and so does a new password.
func TestLegacyAttemptsForgiven(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	user := backend.User(t, "nora6@example.com")
	wantRefused(t, tryLogin(t.Context(), s, user.Email, "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	if err := tryLogin(t.Context(), s, user.Email, user.Password); err != nil {
		t.Fatal(err)
	}
	if n := s.Redis.Exists(t.Context(), oldCounter+user.Email).Val(); n != 0 {
		t.Error("the old counter is still there")
	}
	for range 5 {
		wantRefused(t, tryLogin(t.Context(), s, user.Email, "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	wantRefused(t, tryLogin(t.Context(), s, user.Email, user.Password), codes.ResourceExhausted, "RATE_LIMITED")

	reset := backend.ResetTokens[0]
	owner := userByID(t, backend, reset.UserID)
	s.Redis.Set(t.Context(), oldCounter+owner.Email, "5", 10*time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, owner.Email, owner.Password), codes.ResourceExhausted, "RATE_LIMITED")
	if err := tryReset(t.Context(), s, reset.Token, newPassword); err != nil {
		t.Fatal(err)
	}
	if err := tryLogin(t.Context(), s, owner.Email, newPassword); err != nil {
		t.Fatal(err)
	}
}

// The counter of the typed address and that of the account's own spelling both count. Those of an account that only
// looks similar do not.
func TestLegacyAttemptsOfVariants(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	only := backend.User(t, "Only.Upper.nora@Example.com")
	const typed = "only.upper.nora@example.com"
	s.Redis.Set(t.Context(), oldCounter+only.Email, "2", 10*time.Minute)
	s.Redis.Set(t.Context(), oldCounter+typed, "2", 10*time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, typed, "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	wantRefused(t, tryLogin(t.Context(), s, typed, only.Password), codes.ResourceExhausted, "RATE_LIMITED")
	wantRefused(t, tryLogin(t.Context(), s, only.Email, only.Password), codes.ResourceExhausted, "RATE_LIMITED")

	upper, lower := backend.User(t, "Case.nora@Example.com"), backend.User(t, "case.nora@example.com")
	s.Redis.Set(t.Context(), oldCounter+lower.Email, "5", 10*time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, lower.Email, lower.Password), codes.ResourceExhausted, "RATE_LIMITED")
	if err := tryLogin(t.Context(), s, upper.Email, upper.Password); err != nil {
		t.Error(err)
	}
	// An address without an account is counted in the same way, or the difference would show.
	s.Redis.Set(t.Context(), oldCounter+"nobody@example.com", "4", 10*time.Minute)
	wantRefused(t, tryLogin(t.Context(), s, "nobody@example.com", "wrong"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	wantRefused(t, tryLogin(t.Context(), s, "nobody@example.com", "wrong"), codes.ResourceExhausted, "RATE_LIMITED")
}

// A counter that cannot be read counts as too many, and expires.
func TestLegacyAttemptsHostile(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	user := backend.User(t, "nora0@example.com")
	login := func() error { return tryLogin(t.Context(), s, user.Email, user.Password) }
	for _, value := range []string{"-3", "0", "-9223372036854775808"} {
		s.Redis.Set(t.Context(), oldCounter+user.Email, value, time.Minute)
		if err := login(); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
	for _, value := range []string{"many", "", "99999999999999999999", "9223372036854775807", "5"} {
		s.Redis.Set(t.Context(), oldCounter+user.Email, value, 0)
		wantRefused(t, login(), codes.ResourceExhausted, "RATE_LIMITED")
		if left := s.Redis.PTTL(t.Context(), oldCounter+user.Email).Val(); left <= 0 || left > 15*time.Minute {
			t.Errorf("%q: refused for ever: %v", value, left)
		}
		s.Clock.Advance(15 * time.Minute)
	}
	s.Redis.Del(t.Context(), oldCounter+user.Email)
	s.Redis.RPush(t.Context(), oldCounter+user.Email, "a list")
	wantRefused(t, login(), codes.Unavailable, "STORE_UNAVAILABLE")
	s.Redis.Del(t.Context(), oldCounter+user.Email)
	if err := login(); err != nil {
		t.Fatal(err)
	}
}

// TestLegacyLoginCosts checks that a login costs one more round trip to Redis, and without a takeover none.
func TestLegacyLoginCosts(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	plain := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	user := backend.User(t, "nora0@example.com")
	cost := func(at *testenv.Server) int64 {
		legacyLogin(t, at, user) // scripts are loaded, the hash is rewritten
		_, before := at.Calls.Of("Login")
		legacyLogin(t, at, user)
		_, after := at.Calls.Of("Login")
		return after - before
	}
	without, with := cost(plain), cost(s)
	if with-without != 2 { // GET and PTTL, in one pipeline
		t.Errorf("%d commands to Redis with a takeover, %d without", with, without)
	}
}
