package server_test

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestRevokeSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	signUp(t, s, email)
	laptop, phone, tablet := device(t, s, "laptop"), device(t, s, "phone"), device(t, s, "tablet")
	for _, at := range []*testenv.Server{s, replica} { // both have them in memory
		wantValid(t, at, phone.GetAccessToken(), 0)
	}
	for range 2 {
		revokeSession(t, s, laptop, phone.GetSessionId())
		for _, at := range []*testenv.Server{s, replica} {
			wantEnded(t, at, phone)
		}
	}
	wantListed(t, s, laptop, tablet, laptop)
	rows := "SELECT count(*) FROM revocations WHERE kind = 'session'"
	if n := count(t, s, rows); n != 1 {
		t.Errorf("%d rows of one session that was revoked twice", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'session_revoked' AND session_id = $1", phone.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
	// The phone finds its session ended, in every call.
	_, err := s.SessionService.ListSessions(as(t, phone), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	// Its own session.
	revokeSession(t, replica, tablet, tablet.GetSessionId())
	wantEnded(t, s, tablet)
	wantLive(t, replica, laptop)
}

// The ledger ends it, and no older copy of Redis brings it back.
func TestRevokeSessionThatRedisLost(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	laptop, phone := device(t, s, "laptop"), device(t, s, "phone")
	restore := copyRedis(t, s)
	if err := s.Redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wantListed(t, s, laptop)
	_, err := tryGetSession(t, s, laptop, phone.GetSessionId())
	wantRefused(t, err, codes.NotFound, "SESSION_NOT_FOUND")
	wantValid(t, s, phone.GetAccessToken(), 0)
	revokeSession(t, s, laptop, phone.GetSessionId())
	wantEnded(t, s, phone)
	restore()
	wantListed(t, s, laptop, laptop)
	_, err = tryGetSession(t, s, laptop, phone.GetSessionId())
	wantRefused(t, err, codes.NotFound, "SESSION_NOT_FOUND")
	wantEnded(t, s, phone)

	// The same for the other ways in which the ledger ends sessions.
	tablet := device(t, s, "tablet")
	restore = copyRedis(t, s)
	if err := tryRevokeOthers(t, s, laptop); err != nil {
		t.Fatal(err)
	}
	restore()
	wantListed(t, s, laptop, laptop)
	wantEnded(t, s, tablet)
	execSQL(t, s, "SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, NULL)")
	settled(t, s)
	restore()
	last := device(t, s, "last")
	wantListed(t, s, last, last)
}

func TestRevokeOtherSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	userID := signUp(t, s, email).GetId()
	laptop, phone, tablet := device(t, s, "laptop"), device(t, s, "phone"), device(t, s, "tablet")
	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	for _, at := range []*testenv.Server{s, replica} {
		wantValid(t, at, phone.GetAccessToken(), 0)
	}
	if err := tryRevokeOthers(t, s, laptop); err != nil {
		t.Fatal(err)
	}
	for i, at := range []*testenv.Server{s, replica} {
		other := []*latchkeyv1.Tokens{phone, tablet}
		wantValid(t, at, other[1-i].GetAccessToken(), ended)
		wantEnded(t, at, other[i])
		laptop = wantLive(t, at, laptop)
		bob = wantLive(t, at, bob)
	}
	wantListed(t, s, laptop, laptop)
	if n, err := s.Redis.ZCard(t.Context(), "latchkey:sessions:{"+userID+"}").Result(); err != nil || n != 1 {
		t.Errorf("%d sessions are in the index: %v", n, err)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'user' AND except_session_id = $1", laptop.GetSessionId()); n != 1 {
		t.Errorf("%d rows", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'other_sessions_revoked' AND session_id = $1", laptop.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
	// If there is no other session, the call succeeds. A login after it is live.
	if err := tryRevokeOthers(t, s, laptop); err != nil {
		t.Fatal(err)
	}
	wantLive(t, s, device(t, s, "phone"))
	wantLive(t, s, laptop)
}

// A session that is ended while its call waits ends no others.
func TestRevokeOthersIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, test := range overtaken() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			signUp(t, s, email)
			thief, owner := device(t, s, "thief"), device(t, s, "owner")
			answer := make(chan error, 1)
			test.hold(t, s, thief, owner, func() { answer <- tryRevokeOthers(t, s, thief) })
			wantRefused(t, <-answer, test.code, test.reason)
			if n := count(t, s, "SELECT count(*) FROM revocations WHERE except_session_id = $1", thief.GetSessionId()); n != 0 {
				t.Error("the other sessions were ended")
			}
			if test.reason == "SESSION_ENDED" {
				wantLive(t, s, owner)
			}
		})
	}
}

// overtaking happens to a session, or its account, between the check of its access token and the lock of the account.
type overtaking struct {
	code   codes.Code
	reason string
	// hold runs call, and lets it get the lock only after the event.
	hold func(t *testing.T, s *testenv.Server, by, owner *latchkeyv1.Tokens, call func())
}

func overtaken() map[string]overtaking {
	change := func(sql string) func(*testing.T, *testenv.Server, *latchkeyv1.Tokens, *latchkeyv1.Tokens, func()) {
		return func(t *testing.T, s *testenv.Server, _, _ *latchkeyv1.Tokens, call func()) {
			t.Helper()
			commit := holdAccount(t, s, sql)
			go call()
			commit()
		}
	}
	return map[string]overtaking{
		"revoked": {codes.Unauthenticated, "SESSION_ENDED", func(t *testing.T, s *testenv.Server, by, owner *latchkeyv1.Tokens, call func()) {
			t.Helper()
			commit := holdAccount(t, s, "SELECT id FROM users FOR UPDATE")
			go call()
			testenv.Eventually(t, patience, "the call waits", func() bool { return lockWaits(t, s) > 0 })
			revokeSession(t, s, owner, by.GetSessionId())
			commit()
		}},
		// After the account was locked: the end of a session waits only for the head.
		"revoked at the last moment": {codes.Unauthenticated, "SESSION_ENDED", func(t *testing.T, s *testenv.Server, by, _ *latchkeyv1.Tokens, call func()) {
			t.Helper()
			const end = `SELECT latchkey_append_revocation('session', $1::uuid, (SELECT id FROM users), NULL, NULL, NULL)`
			commit := holdAccount(t, s, end, by.GetSessionId())
			go call()
			commit()
		}},
		"disabled": {codes.PermissionDenied, "ACCOUNT_DISABLED", change("UPDATE users SET is_active = false")},
		"deleted":  {codes.Unauthenticated, "USER_NOT_FOUND", change("DELETE FROM users")},
	}
}

// An account cannot fill the ledger with sessions that never existed, and can still end its own.
func TestInventedSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	owner, other := logIn(t, s, email), logIn(t, s, email)
	var err error
	for n := 0; err == nil; n++ {
		if n > 100 {
			t.Fatalf("%d sessions that never were are rows of the ledger", n)
		}
		_, err = s.SessionService.RevokeSession(as(t, owner), &latchkeyv1.RevokeSessionRequest{SessionId: uuid.NewString()})
	}
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	revokeSession(t, s, owner, other.GetSessionId())
	wantValid(t, s, other.GetAccessToken(), ended)
}
