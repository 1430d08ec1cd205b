package server_test

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// The oldest login is ended before the new one answers, on every replica.
func TestSessionLimit(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{SessionLimit: 2})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, SessionLimit: 2})
	signUp(t, s, email)
	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	first, second := device(t, s, "first"), device(t, s, "second")
	wantValid(t, replica, first.GetAccessToken(), 0)
	third := device(t, s, "third")
	for _, at := range []*testenv.Server{s, replica} {
		wantEnded(t, at, first)
		second = wantLive(t, at, second)
	}
	wantListed(t, s, third, third, second)
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'session_evicted' AND session_id = $1", first.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
	// A session that was ended leaves room.
	logOut(t, s, second.GetRefreshToken())
	fourth := device(t, s, "fourth")
	wantListed(t, s, fourth, fourth, third)
	wantLive(t, s, bob)
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'session_evicted'"); n != 1 {
		t.Errorf("%d sessions were evicted", n)
	}
}

func TestSessionLimitAtOnce(t *testing.T) {
	t.Parallel()
	const limit, callers = 5, 40
	s := testenv.Start(t, testenv.Options{SessionLimit: limit})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock, SessionLimit: limit})
	signUp(t, s, email)
	tokens := make([]*latchkeyv1.Tokens, callers)
	var wg sync.WaitGroup
	for i := range callers {
		at := []*testenv.Server{s, replica}[i%2]
		wg.Go(func() {
			resp, err := at.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
			if err != nil {
				t.Error(err)
			}
			tokens[i] = resp.GetTokens()
		})
	}
	wg.Wait()
	var live []*latchkeyv1.Tokens
	for _, each := range tokens {
		resp, err := replica.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: each.GetAccessToken()})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetValid() {
			live = append(live, each)
		}
	}
	if len(live) != limit {
		t.Fatalf("%d sessions live, want %d", len(live), limit)
	}
	if shown, _ := listPage(t, s, live[0], 0, ""); len(shown) != limit {
		t.Errorf("%d are listed", len(shown))
	}
	if n := count(t, s, "SELECT count(DISTINCT session_id) FROM revocations"); n != callers-limit {
		t.Errorf("%d sessions were ended", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'session_evicted'"); n != callers-limit {
		t.Errorf("%d were evicted", n)
	}
}

// A login that cannot end the sessions over the limit is refused, and a later one ends them.
func TestEvictionFails(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{SessionLimit: 1})
	signUp(t, s, email)
	first := device(t, s, "first")
	execSQL(t, s, "ALTER TABLE audit_events RENAME TO audit_events_gone")
	if code := status.Code(tryLogin(t.Context(), s, email, password)); code != codes.Internal {
		t.Fatalf("got %v", code)
	}
	execSQL(t, s, "ALTER TABLE audit_events_gone RENAME TO audit_events")
	wantListed(t, s, first, first) // it lives, and is listed
	first = wantLive(t, s, first)
	s.Clock.Advance(30 * time.Second)
	second := device(t, s, "second")
	wantEnded(t, s, first)
	wantListed(t, s, second, second)
}
