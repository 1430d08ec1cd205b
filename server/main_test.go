package server_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const (
	email    = "Ada.Lovelace@Example.com"
	password = "correct horse battery"
	// patience is how long work behind a call may take on a busy machine.
	patience = 30 * time.Second
)

// signUp makes an account with the usual password.
func signUp(t *testing.T, s *testenv.Server, address string) *latchkeyv1.User {
	t.Helper()
	resp, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{
		Email: address, Password: password, FirstName: "Ada", LastName: "Lovelace",
	})
	if err != nil {
		t.Fatalf("sign up %s: %v", address, err)
	}
	return resp.GetUser()
}

func logIn(t *testing.T, s *testenv.Server, address string) *latchkeyv1.Tokens {
	t.Helper()
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: password, DeviceName: "test"})
	if err != nil {
		t.Fatalf("log in %s: %v", address, err)
	}
	return resp.GetTokens()
}

// account signs up and logs in.
func account(t *testing.T, s *testenv.Server) *latchkeyv1.Tokens {
	t.Helper()
	signUp(t, s, email)
	return logIn(t, s, email)
}

func refresh(t *testing.T, s *testenv.Server, refreshToken, requestID string) *latchkeyv1.Tokens {
	t.Helper()
	resp, err := tryRefresh(t.Context(), s, refreshToken, requestID)
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	return resp
}

func tryRefresh(ctx context.Context, s *testenv.Server, refreshToken, requestID string) (*latchkeyv1.Tokens, error) {
	resp, err := s.Auth.RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: refreshToken, RequestId: requestID})
	return resp.GetTokens(), err
}

func logOut(t *testing.T, s *testenv.Server, refreshToken string) {
	t.Helper()
	if _, err := s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: refreshToken}); err != nil {
		t.Fatalf("log out: %v", err)
	}
}

// wantValid checks a token with ValidateToken. With the reason unspecified, the token must be good.
func wantValid(t *testing.T, s *testenv.Server, accessToken string, reason latchkeyv1.ErrorReason) *latchkeyv1.ValidateTokenResponse {
	t.Helper()
	resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: accessToken})
	if err != nil {
		t.Fatalf("validate: %v", err)
	}
	good := reason == latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	if resp.GetValid() != good || resp.GetReason() != reason {
		t.Fatalf("valid=%v reason=%v, want reason %v", resp.GetValid(), resp.GetReason(), reason)
	}
	if !good && (resp.GetUser() != nil || resp.GetSessionId() != "" || resp.GetExpireTime() != nil) {
		t.Fatalf("a bad token's answer tells more than the reason: %v", resp)
	}
	return resp
}

// wantRefused checks that err has the code, the reason (without its prefix), a trace id, and a violation for each of
// fields and no other.
func wantRefused(t *testing.T, err error, code codes.Code, reason string, fields ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("code %v (%v), want %v", st.Code(), err, code)
	}
	var gotReason, trace string
	later := false
	got := map[string]bool{}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			gotReason = d.GetReason()
			if d.GetDomain() != "latchkey" {
				t.Errorf("domain %q", d.GetDomain())
			}
		case *errdetails.RequestInfo:
			trace = d.GetRequestId()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				got[v.GetField()] = true
				if v.GetDescription() == "" || v.GetReason() == "" || strings.ToUpper(v.GetReason()) != v.GetReason() {
					t.Errorf("violation without words or reason: %v", v)
				}
			}
		case *errdetails.RetryInfo:
			later = true
			if d.GetRetryDelay().AsDuration() <= 0 {
				t.Errorf("retry delay %v", d.GetRetryDelay())
			}
		}
	}
	if gotReason != reason {
		t.Fatalf("reason %q (%v), want %q", gotReason, err, reason)
	}
	if len(trace) != 32 {
		t.Errorf("trace id %q", trace)
	}
	if want := code == codes.Unavailable || code == codes.ResourceExhausted; later != want {
		t.Errorf("says when to try again: %v, want %v", later, want)
	}
	if len(got) != len(fields) {
		t.Errorf("violations of %v, want %v", got, fields)
	}
	for _, field := range fields {
		if !got[field] {
			t.Errorf("no violation of %s: %v", field, got)
		}
	}
}

// retryAfter returns the RetryInfo of a refusal.
func retryAfter(t *testing.T, err error) time.Duration {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*errdetails.RetryInfo); ok {
			return d.GetRetryDelay().AsDuration()
		}
	}
	t.Fatalf("no RetryInfo in %v", err)
	return 0
}

// count runs a query that returns one number.
func count(t *testing.T, s *testenv.Server, query string, args ...any) int {
	t.Helper()
	var n int
	if err := s.Pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func execSQL(t *testing.T, s *testenv.Server, query string, args ...any) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// flip changes the character at i to another one of base64url.
func flip(text string, i int) string {
	other := byte('A')
	if text[i] == other {
		other = 'B'
	}
	return text[:i] + string(other) + text[i+1:]
}

// rawMessage is sent as it is, whatever a proto message may hold.
type rawMessage string

type rawBytes struct{}

// rawCodec sends a rawMessage. It does not read answers.
func rawCodec() grpc.CallOption { return grpc.ForceCodec(rawBytes{}) }

func (rawBytes) Marshal(v any) ([]byte, error) {
	raw, ok := v.(rawMessage)
	if !ok {
		return nil, errors.New("not a raw message")
	}
	return []byte(raw), nil
}

func (rawBytes) Unmarshal([]byte, any) error { return nil }

func (rawBytes) Name() string { return "proto" }

// holdAccount begins a transaction that changes the account and does not commit yet: calls that read the account see it
// unchanged, and calls that lock it wait. commit waits until somebody waits, and commits.
func holdAccount(t *testing.T, s *testenv.Server, change string, args ...any) (commit func()) {
	t.Helper()
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), change, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }) // a failed test must not hold its server up
	return func() {
		t.Helper()
		testenv.Eventually(t, patience, "somebody waits for the account", func() bool {
			return lockWaits(t, s) > 0
		})
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// lockWaits counts the connections that wait for a lock in the database.
func lockWaits(t *testing.T, s *testenv.Server) int {
	t.Helper()
	return count(t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
}

// sessionKeys lists the sessions in Redis.
func sessionKeys(t *testing.T, s *testenv.Server) []string {
	t.Helper()
	keys, err := s.Redis.Keys(t.Context(), "latchkey:session:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// settled waits until the server has applied every row of the ledger, including rows that plain SQL appended and for
// which nobody waited.
func settled(t *testing.T, s *testenv.Server) {
	t.Helper()
	head := int64(count(t, s, "SELECT seq FROM ledger_head"))
	testenv.Eventually(t, patience, "the replica has applied the ledger's head", func() bool {
		return s.Ledger.Stats().Applied >= head
	})
}

// copyRedis copies the sessions in Redis and their lists. restore brings them back as they were, without their expiry.
// It does not use DUMP, which the stand-in for Redis does not have for these types.
func copyRedis(t *testing.T, s *testenv.Server) (restore func()) {
	t.Helper()
	hashes, lists := map[string]map[string]string{}, map[string][]redis.Z{}
	var err error
	for _, key := range s.Redis.Keys(t.Context(), "latchkey:session*").Val() {
		if strings.HasPrefix(key, "latchkey:session:") {
			hashes[key], err = s.Redis.HGetAll(t.Context(), key).Result()
		} else {
			lists[key], err = s.Redis.ZRangeWithScores(t.Context(), key, 0, -1).Result()
		}
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if len(hashes) == 0 || len(lists) == 0 {
		t.Fatalf("copied %d sessions and %d lists", len(hashes), len(lists))
	}
	return func() {
		t.Helper()
		for key, fields := range hashes {
			err = errors.Join(err, s.Redis.Del(t.Context(), key).Err(), s.Redis.HSet(t.Context(), key, fields).Err())
		}
		for key, members := range lists {
			err = errors.Join(err, s.Redis.Del(t.Context(), key).Err(), s.Redis.ZAdd(t.Context(), key, members...).Err())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
