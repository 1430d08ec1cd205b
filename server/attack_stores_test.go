package server_test

import (
	"context"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// soon is how long a call that revokes may take while Redis does not answer.
const soon = 200 * time.Millisecond

// attackHanging starts a server whose clients are not on loopback, so that their addresses are counted, and an account
// with two sessions.
func attackHanging(t *testing.T, o testenv.Options) (s *testenv.Server, store *testenv.Proxy, mine, other *latchkeyv1.Tokens, from func(key string) context.Context) {
	t.Helper()
	if o.Legacy != nil {
		store = testenv.NewProxy(t, o.Legacy.RedisURL)
		o.Legacy.RedisURL = store.URL()
	} else {
		store = testenv.NewProxy(t, testenv.Redis(t))
		o.RedisURL = store.URL()
	}
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	o.AddressLimit = true
	s = testenv.Start(t, o)
	mine = account(t, s)
	other = logIn(t, s, email)
	return s, store, mine, other, func(key string) context.Context {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "192.0.2.77")
		if key != "" {
			ctx = testenv.WithKey(ctx, key)
		}
		return ctx
	}
}

// timed runs a call three times, with again before each repeat, and returns the shortest time, because the machine may
// be busy with other tests. The last error counts.
func timed(t *testing.T, call func() error) time.Duration {
	t.Helper()
	shortest := time.Hour
	for range 3 {
		began := time.Now()
		if err := call(); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(began))
	}
	return shortest
}

// An operator suspends an account, and an owner logs out from elsewhere, while Redis accepts every command and answers
// none.
func TestAttack12RevokeWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, mine, other, from := attackHanging(t, testenv.Options{})
	userID := wantValid(t, s, mine.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED).GetUser().GetId()
	store.Freeze()
	owner, operator := from(mine.GetAccessToken()), from(testenv.AdminKey)
	for name, call := range map[string]func() error{
		"RevokeSession": func() error {
			_, err := s.SessionService.RevokeSession(owner, &latchkeyv1.RevokeSessionRequest{SessionId: other.GetSessionId()})
			return err
		},
		"RevokeOtherSessions": func() error {
			_, err := s.SessionService.RevokeOtherSessions(owner, &latchkeyv1.RevokeOtherSessionsRequest{})
			return err
		},
	} {
		if took := timed(t, call); took > soon {
			t.Errorf("%s took %s", name, took)
		}
	}
	wantValid(t, s, other.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"SuspendUser", func() error {
			_, err := s.Admin.SuspendUser(operator, &latchkeyv1.SuspendUserRequest{UserId: userID})
			return err
		}},
		{"ListUsers", func() error {
			_, err := s.Admin.ListUsers(operator, &latchkeyv1.ListUsersRequest{})
			return err
		}},
		{"RevokeUserSessions", func() error {
			_, err := s.Admin.RevokeUserSessions(operator, &latchkeyv1.RevokeUserSessionsRequest{UserId: userID})
			return err
		}},
		{"RevokeAllSessions", func() error {
			_, err := s.Admin.RevokeAllSessions(operator, &latchkeyv1.RevokeAllSessionsRequest{})
			return err
		}},
	} {
		if took := timed(t, c.call); took > soon {
			t.Errorf("%s took %s", c.name, took)
		}
	}
	wantValid(t, s, mine.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED)
}

// A mailed token sets a new password, which ends a thief's sessions.
func TestAttack12ResetWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, mine, _, from := attackHanging(t, testenv.Options{})
	_, token := resetMail(t, s, email)
	store.Freeze()
	began := time.Now()
	_, err := s.Auth.ResetPassword(from(""), &latchkeyv1.ResetPasswordRequest{Token: token, NewPassword: newPassword})
	if took := time.Since(began); err != nil || took > time.Second { // it includes a hash
		t.Errorf("%v after %s", err, took)
	}
	wantValid(t, s, mine.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// Calls that need Redis are refused within two seconds, from every caller.
func TestAttack12OthersAreToldInTime(t *testing.T) {
	t.Parallel()
	s, store, mine, _, from := attackHanging(t, testenv.Options{})
	store.Freeze()
	for name, call := range map[string]func(ctx context.Context) error{
		"Login":        func(ctx context.Context) error { return tryLogin(ctx, s, email, password) },
		"RefreshToken": func(ctx context.Context) error { _, err := tryRefresh(ctx, s, mine.GetRefreshToken(), ""); return err },
		"Logout": func(ctx context.Context) error {
			_, err := s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: mine.GetRefreshToken()})
			return err
		},
		"ListSessions": func(ctx context.Context) error {
			_, err := s.SessionService.ListSessions(testenv.WithKey(ctx, mine.GetAccessToken()), &latchkeyv1.ListSessionsRequest{})
			return err
		},
	} {
		for where, ctx := range map[string]context.Context{"loopback": t.Context(), "afar": from("")} {
			t.Run(name+" from "+where, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				wantRefused(t, call(ctx), codes.Unavailable, "STORE_UNAVAILABLE")
				if took := time.Since(began); took > 2500*time.Millisecond {
					t.Errorf("told after %s", took)
				}
			})
		}
	}
}

// Callers without a good credential cannot pass the limit, and do not learn sooner than before that it is bad.
func TestAttack12GuessesWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, _, _, from := attackHanging(t, testenv.Options{})
	store.Freeze()
	for name, call := range map[string]func() error{
		"SuspendUser": func() error {
			_, err := s.Admin.SuspendUser(from("a guess"), &latchkeyv1.SuspendUserRequest{UserId: mineID})
			return err
		},
		"no key": func() error {
			_, err := s.Admin.RevokeAllSessions(from(""), &latchkeyv1.RevokeAllSessionsRequest{})
			return err
		},
		"RevokeOtherSessions": func() error {
			_, err := s.SessionService.RevokeOtherSessions(from("a guess"), &latchkeyv1.RevokeOtherSessionsRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, call(), codes.Unavailable, "STORE_UNAVAILABLE")
		})
	}
}

// mineID is a well-formed id that nobody has.
const mineID = "7f0c9a52-7f5e-4c0f-9df4-2b5d5a3f6a11"

// A good credential does not pass the limit either: the replica counts.
func TestAttack12LimitsWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, mine, _, from := attackHanging(t, testenv.Options{})
	call := func() error {
		_, err := s.SessionService.RevokeOtherSessions(from(mine.GetAccessToken()), &latchkeyv1.RevokeOtherSessionsRequest{})
		return err
	}
	const burst = 120 // from the contract
	passed := 0
	for range burst / 2 {
		if call() == nil {
			passed++
		}
	}
	store.Freeze()
	results := make(chan error, burst)
	for range burst {
		go func() { results <- call() }()
	}
	for range burst {
		if err := <-results; err == nil {
			passed++
		} else {
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
		}
	}
	if passed != burst {
		t.Errorf("%d calls passed, want %d", passed, burst)
	}
}

// An account cannot fill the ledger with ends of sessions that never existed.
func TestAttack12InventedSessionsWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, mine, _, _ := attackHanging(t, testenv.Options{})
	store.Freeze()
	ctx := testenv.WithKey(t.Context(), mine.GetAccessToken()) // from loopback: no address counts
	const calls = 150
	results := make(chan error, calls)
	for i := range calls {
		go func() {
			_, err := s.SessionService.RevokeSession(ctx, &latchkeyv1.RevokeSessionRequest{
				SessionId: mineID[:len(mineID)-3] + strconv.Itoa(100+i),
			})
			results <- err
		}()
	}
	passed := 0
	for range calls {
		if <-results == nil {
			passed++
		}
	}
	if passed != 100 {
		t.Errorf("%d invented sessions were ended, want 100", passed)
	}
}

// The older contract resets too.
func TestAttack12OldContractWhileRedisHangs(t *testing.T) {
	t.Parallel()
	s, store, mine, _, from := attackHanging(t, testenv.Options{Legacy: testenv.Existing(t)})
	_, token := resetMail(t, s, email)
	store.Freeze()
	began := time.Now()
	_, err := authpb.NewAuthServiceClient(s.Conn).ResetPassword(from(""), &authpb.ResetPasswordRequest{Token: token, NewPassword: oldPassword})
	if took := time.Since(began); err != nil || took > time.Second {
		t.Errorf("%v after %s", err, took)
	}
	wantValid(t, s, mine.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}
