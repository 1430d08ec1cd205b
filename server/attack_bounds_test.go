package server_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	allRows   = "SELECT count(*) FROM revocations"
	allEvents = "SELECT count(*) FROM audit_events"
)

// Somebody who has read a refresh token repeats the refresh two hundred times in its grace, at two replicas. The audit
// trail has one event with the number.
func TestAttack19RepeatsInGrace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	tokens := account(t, s)
	other := logIn(t, s, email)
	next := refresh(t, s, tokens.GetRefreshToken(), "")
	before := count(t, s, allEvents)
	var calls errgroup.Group
	const each = 100
	for _, at := range []*testenv.Server{s, replica} {
		for range 4 {
			calls.Go(func() error {
				for range each / 4 {
					got, err := tryRefresh(t.Context(), at, tokens.GetRefreshToken(), "")
					if err != nil {
						return err
					}
					if got.GetRefreshToken() != next.GetRefreshToken() {
						return errors.New("another successor")
					}
				}
				return nil
			})
		}
	}
	if err := calls.Wait(); err != nil {
		t.Fatal(err)
	}
	// One for each replica, if both began at the same moment.
	if n := count(t, s, allEvents) - before; n < 1 || n > 2 {
		t.Errorf("%d events of %d repeats", n, 2*each)
	}
	if n := count(t, s, "SELECT sum(times) FROM audit_events WHERE kind = 'refresh_repeated' AND session_id = $1", tokens.GetSessionId()); n != 2*each {
		t.Errorf("%d repeats are counted", n)
	}
	// Another session makes an event of its own, and so does a repeat a minute later.
	refresh(t, s, other.GetRefreshToken(), "")
	refresh(t, s, other.GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	refresh(t, s, next.GetRefreshToken(), "")
	refresh(t, s, next.GetRefreshToken(), "")
	events := "SELECT count(*) FROM audit_events WHERE kind = 'refresh_repeated' AND times = 1 AND session_id = $1 AND created_at >= $2"
	if n := count(t, s, events, other.GetSessionId(), s.Clock.Now().Add(-time.Hour)); n != 1 {
		t.Errorf("%d events of another session", n)
	}
	if n := count(t, s, events, tokens.GetSessionId(), s.Clock.Now()); n != 1 {
		t.Errorf("%d events a minute later", n)
	}
}

// A session ends the others again and again, at two replicas. A row is made only if there is something to end, and then
// at once.
func TestAttack19RevokeOthersInALoop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	signUp(t, s, email)
	laptop, phone := device(t, s, "laptop"), device(t, s, "phone")
	loop := func() {
		t.Helper()
		var calls errgroup.Group
		for _, at := range []*testenv.Server{s, replica} {
			for range 4 {
				calls.Go(func() error {
					for range 10 {
						if err := tryRevokeOthers(t, at, laptop); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		if err := calls.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for round := 1; round <= 3; round++ {
		loop()
		for _, at := range []*testenv.Server{s, replica} {
			wantValid(t, at, phone.GetAccessToken(), ended)
			wantValid(t, at, laptop.GetAccessToken(), 0)
		}
		wantEnded(t, s, phone)
		// Ten rows are written before anybody looks, and ten for each replica if Redis takes longer than the 50 ms for
		// which a call waits: then replicas count alone. Without the bound there would be 80 for each round.
		if n := count(t, s, allRows); n < 9+round || n > 19+round {
			t.Fatalf("round %d: %d rows", round, n)
		}
		phone = device(t, replica, "phone") // a session since then, which must be ended
		wantListed(t, s, laptop, phone, laptop)
	}
	// Another session of the account ends the first one, which can then end nothing.
	if err := tryRevokeOthers(t, s, phone); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, tryRevokeOthers(t, s, laptop), codes.Unauthenticated, "SESSION_ENDED")
	wantLive(t, s, phone)
}

// A session that started before the call is ended by it, whether or not the call makes a row.
func TestAttack19RevokeOthersDuringLogins(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{HashSlots: 4})
	signUp(t, s, email)
	mine := logIn(t, s, email)
	var mu sync.Mutex
	var began []*latchkeyv1.Tokens
	var logins errgroup.Group
	for range 3 {
		logins.Go(func() error {
			for range 15 {
				resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
				if err != nil {
					return err
				}
				mu.Lock()
				began = append(began, resp.GetTokens())
				mu.Unlock()
			}
			return nil
		})
	}
	for range 40 {
		mu.Lock()
		before := began
		mu.Unlock()
		if err := tryRevokeOthers(t, s, mine); err != nil {
			t.Fatal(err)
		}
		for _, tokens := range before {
			wantValid(t, s, tokens.GetAccessToken(), ended)
		}
	}
	if err := logins.Wait(); err != nil {
		t.Fatal(err)
	}
}

// An owner ends the other sessions twice, and a thief asks for a link in between. The second call ends the link, before
// or after it was sent.
func TestAttack19RevokeOthersEndsLinks(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	mine := account(t, s)
	for range 3 {
		if err := tryRevokeOthers(t, s, mine); err != nil {
			t.Fatal(err)
		}
		forgot(t, s, email)
		if err := tryRevokeOthers(t, s, mine); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, patience, "all requests are worked", func() bool {
		return count(t, s, "SELECT count(*) FROM reset_requests") == 0 && count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'reset_link' AND finalized_at IS NULL") == 0
	})
	for _, message := range s.Mailbox.Messages() {
		if strings.Contains(message.Text, "token=") {
			wantRefused(t, tryReset(t.Context(), s, linkToken(t, message), newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
		}
	}
}

// One session is logged out over and over, in parallel and in turn, while Redis forgets that it was ended. That makes
// one row.
func TestAttack19LogoutInALoop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	user := signUp(t, s, email)
	phone := device(t, s, "phone")
	restore := copyRedis(t, s)
	for range 4 {
		var calls errgroup.Group
		for _, at := range []*testenv.Server{s, replica} {
			for range 8 {
				calls.Go(func() error {
					_, err := at.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: phone.GetRefreshToken()})
					return err
				})
				calls.Go(func() error {
					_, err := at.Admin.RevokeUserSession(asAdmin(t), &latchkeyv1.RevokeUserSessionRequest{UserId: user.GetId(), SessionId: phone.GetSessionId()})
					return err
				})
			}
		}
		if err := calls.Wait(); err != nil {
			t.Fatal(err)
		}
		wantEnded(t, s, phone)
		restore()
		wantEnded(t, replica, phone)
		restore()
	}
	// Two replicas may find no row at the same moment.
	if n := count(t, s, allRows); n < 1 || n > 2 {
		t.Errorf("%d rows of one session", n)
	}
	if n := count(t, s, allEvents+" WHERE session_id = $1", phone.GetSessionId()); n < 2 || n > 3 {
		t.Errorf("%d events", n)
	}
}

// An account ends sessions that it never had, without end. Its rows are limited, whether or not addresses are counted
// and Redis answers. Sessions that it once had can still be ended.
func TestAttack19InventedSessions(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"Redis answers": false, "Redis hangs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := testenv.NewProxy(t, testenv.Redis(t))
			s := testenv.Start(t, testenv.Options{RedisURL: store.URL()})
			signUp(t, s, email)
			mine, lost := device(t, s, "laptop"), device(t, s, "phone")
			if err := s.Redis.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			kept := logIn(t, s, email)
			if hangs {
				store.Freeze()
			}
			var calls errgroup.Group
			for range 4 {
				calls.Go(func() error {
					for range 50 {
						_, err := s.SessionService.RevokeSession(as(t, mine), &latchkeyv1.RevokeSessionRequest{SessionId: uuid.NewString()})
						if reason := reasonIn(err); err != nil && reason != "RATE_LIMITED" {
							return err
						}
					}
					return nil
				})
			}
			if err := calls.Wait(); err != nil {
				t.Fatal(err)
			}
			if n := count(t, s, allRows); n != 100 {
				t.Errorf("%d rows", n)
			}
			for _, tokens := range []*latchkeyv1.Tokens{lost, kept} {
				revokeSession(t, s, mine, tokens.GetSessionId())
				wantValid(t, s, tokens.GetAccessToken(), ended)
			}
			_, err := s.SessionService.RevokeSession(as(t, mine), &latchkeyv1.RevokeSessionRequest{SessionId: uuid.NewString()})
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if err := tryRevokeOthers(t, s, mine); err != nil {
				t.Errorf("all others: %v", err)
			}
		})
	}
}

// Somebody who has the password logs in and out without end. Sessions cannot start faster than the rate of the account,
// which strangers cannot use up. All sessions that started can be ended. When the loop stops, there is room again.
func TestAttack19LoginsInALoop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{SessionLimit: 5})
	signUp(t, s, email)
	signUp(t, s, "bob@example.com")
	const burst = 300
	for range 20 { // strangers
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "not the password"})
		if err == nil {
			t.Fatal("let in")
		}
	}
	s.Clock.Advance(time.Hour)
	var calls errgroup.Group
	for range 8 {
		calls.Go(func() error {
			for range 50 {
				resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
				if reasonIn(err) == "RATE_LIMITED" {
					continue
				}
				if err != nil {
					return err
				}
				if _, err := s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: resp.GetTokens().GetRefreshToken()}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := calls.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, allEvents+" WHERE kind = 'logged_in'"); n != burst {
		t.Errorf("%d logins", n)
	}
	if n := count(t, s, allRows); n > burst {
		t.Errorf("%d rows", n)
	}
	logIn(t, s, "bob@example.com")
	s.Clock.Advance(2 * time.Second)
	tokens := logIn(t, s, email)
	logOut(t, s, tokens.GetRefreshToken())
	wantEnded(t, s, tokens)
}

// Each change makes a row, an event and a mail.
func TestAttack19PasswordChangesInALoop(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	mine := account(t, s)
	passwords := [2]string{password, newPassword}
	var err error
	changes := 0
	for ; err == nil && changes < 100; changes++ {
		_, err = s.Auth.ChangePassword(as(t, mine), &latchkeyv1.ChangePasswordRequest{CurrentPassword: passwords[changes%2], NewPassword: passwords[(changes+1)%2]})
	}
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	if n := count(t, s, allRows); n != 30 {
		t.Errorf("%d rows", n)
	}
	// The sessions that the change would have ended can be ended, and a minute later there is room again.
	if err := tryRevokeOthers(t, s, mine); err != nil {
		t.Error(err)
	}
	s.Clock.Advance(time.Minute)
	if _, err := s.Auth.ChangePassword(as(t, mine), &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword}); err != nil {
		t.Error(err)
	}
}

// It changes nothing, not even the list of sessions.
func TestReactivateAnActiveAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	laptop, phone := device(t, s, "laptop"), device(t, s, "phone")
	signUp(t, s, "bob@example.com")
	bobs := logIn(t, s, "bob@example.com")
	if err := tryRevokeOthers(t, s, bobs); err != nil { // the ledger moves on
		t.Fatal(err)
	}
	reactivate(t, s, user.GetId())
	wantListed(t, s, laptop, phone, laptop)
	wantLive(t, s, phone)
}
