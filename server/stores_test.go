package server_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// everyCall calls each RPC once, with requests that would succeed, and returns the errors by name.
func everyCall(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) map[string]error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	errs := map[string]error{}
	_, errs["SignUp"] = s.Auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: "new@example.com", Password: password, FirstName: "A", LastName: "B"})
	_, errs["Login"] = s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
	_, errs["RefreshToken"] = s.Auth.RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: tokens.GetRefreshToken()})
	_, errs["Logout"] = s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()})
	_, errs["ValidateToken"] = s.Auth.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
	_, errs["ForgotPassword"] = s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: email})
	_, errs["ResetPassword"] = s.Auth.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{Token: "some token", NewPassword: newPassword})
	caller := testenv.WithKey(ctx, tokens.GetAccessToken())
	_, errs["ChangePassword"] = s.Auth.ChangePassword(caller, &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword})
	_, errs["ListSessions"] = s.SessionService.ListSessions(caller, &latchkeyv1.ListSessionsRequest{})
	_, errs["GetSession"] = s.SessionService.GetSession(caller, &latchkeyv1.GetSessionRequest{SessionId: tokens.GetSessionId()})
	_, errs["RevokeSession"] = s.SessionService.RevokeSession(caller, &latchkeyv1.RevokeSessionRequest{SessionId: uuid.NewString()})
	_, errs["RevokeOtherSessions"] = s.SessionService.RevokeOtherSessions(caller, &latchkeyv1.RevokeOtherSessionsRequest{})
	return errs
}

// Calls that need Redis are refused, the others work, nothing is half done, and everything works when Redis is back.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	store := testenv.NewProxy(t, testenv.Redis(t))
	s := testenv.Start(t, testenv.Options{RedisURL: store.URL()})
	tokens := account(t, s)
	logins := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'")
	store.Cut()
	for name, err := range everyCall(t, s, tokens) {
		switch name {
		case "SignUp", "ValidateToken", "RevokeSession", "RevokeOtherSessions":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case "ResetPassword":
			wantRefused(t, err, codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
		default:
			wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
		}
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_in'"); n != logins {
		t.Error("a refused login was recorded")
	}
	if n := count(t, s, "SELECT (SELECT count(*) FROM river_job WHERE queue LIKE 'mail%') + (SELECT count(*) FROM reset_requests)"); n != 0 {
		t.Error("a refused request left a mail")
	}
	testenv.Eventually(t, patience, "readyz says that Redis is gone", func() bool {
		code, body := get(t, s.HTTP+"/readyz")
		return code == http.StatusOK && body == `{"ready":true,"stopping":false,"postgres":"ok","redis":"unreachable"}`+"\n"
	})
	// Tokens are still validated. To take every replica out of service would end that too.
	s.Server.CheckStores(t.Context())
	answer, err := grpc_health_v1.NewHealthClient(s.Conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health without Redis: %v, %v", answer, err)
	}
	store.Restore()
	testenv.Eventually(t, patience, "Redis answers again", func() bool {
		return tryLogin(t.Context(), s, email, password) == nil
	})
	refresh(t, s, tokens.GetRefreshToken(), "")
}

// Nothing is answered from guesses.
func TestPostgresGone(t *testing.T) {
	t.Parallel()
	database := testenv.NewProxy(t, testenv.Migrated(t))
	s := testenv.Start(t, testenv.Options{DatabaseURL: database.URL()})
	tokens := account(t, s)
	database.Cut()
	for name, err := range everyCall(t, s, tokens) {
		t.Log(name)
		wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
	}
	health := grpc_health_v1.NewHealthClient(s.Conn)
	testenv.Eventually(t, patience, "health says NOT_SERVING", func() bool {
		answer, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING
	})
	if code, _ := get(t, s.HTTP+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d", code)
	}
	if code, _ := get(t, s.HTTP+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz answers %d: the process is alive", code)
	}
	database.Restore()
	testenv.Eventually(t, patience, "PostgreSQL answers again", func() bool {
		_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
		return err == nil
	})
	// The outage used up nothing: neither the session nor the attempts at a login.
	refresh(t, s, tokens.GetRefreshToken(), "")
	if err := tryLogin(t.Context(), s, email, password); err != nil {
		t.Error(err)
	}
}

// A store that accepts commands and never answers holds a call no longer than its deadline.
func TestFrozenStores(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"postgres", "redis"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			database, store := testenv.NewProxy(t, testenv.Migrated(t)), testenv.NewProxy(t, testenv.Redis(t))
			s := testenv.Start(t, testenv.Options{DatabaseURL: database.URL(), RedisURL: store.URL()})
			tokens := account(t, s)
			frozen := map[string]*testenv.Proxy{"postgres": database, "redis": store}[which]
			frozen.Freeze()
			// The server subtracts some time for the answer, which must be enough with the race detector on a busy
			// machine.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := tryRefresh(ctx, s, tokens.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
			frozen.Restore()
			testenv.Eventually(t, patience, "the store answers again", func() bool {
				_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
				return err == nil
			})
		})
	}
}

// A Redis that accepts commands and answers none holds up nothing that does not need Redis.
func TestHealthWhileRedisHangs(t *testing.T) {
	t.Parallel()
	database, store := testenv.NewProxy(t, testenv.Migrated(t)), testenv.NewProxy(t, testenv.Redis(t))
	s := testenv.Start(t, testenv.Options{DatabaseURL: database.URL(), RedisURL: store.URL()})
	health := grpc_health_v1.NewHealthClient(s.Conn)
	says := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			answer, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			return err == nil && answer.GetStatus() == want
		}
	}
	store.Freeze()
	database.Cut()
	testenv.Eventually(t, patience, "health says NOT_SERVING", says(grpc_health_v1.HealthCheckResponse_NOT_SERVING))
	database.Restore()
	testenv.Eventually(t, patience, "health says SERVING while Redis hangs", says(grpc_health_v1.HealthCheckResponse_SERVING))
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	code, _, body := fetch(t, url)
	return code, string(body)
}

// fetch reads the whole answer.
func fetch(t *testing.T, url string) (code int, header http.Header, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// It is refused within the two seconds that a caller can wait, and not after the ten that the Redis client's own dials
// and retries take together.
func TestLoginWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, _, _, _ := attackHanging(t, testenv.Options{})
	store.Freeze()
	for range 2 { // the second call finds connections that do not answer already
		began := time.Now()
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: "correct horse battery"})
		wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
	}
}
