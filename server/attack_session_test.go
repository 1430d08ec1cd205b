package server_test

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func tryRevokeUserSession(t *testing.T, s *testenv.Server, userID, id string) error {
	t.Helper()
	_, err := s.Admin.RevokeUserSession(asAdmin(t), &latchkeyv1.RevokeUserSessionRequest{UserId: userID, SessionId: id})
	return err
}

func revokeUserSession(t *testing.T, s *testenv.Server, userID, id string) {
	t.Helper()
	if err := tryRevokeUserSession(t, s, userID, id); err != nil {
		t.Fatalf("revoke %s of %s: %v", id, userID, err)
	}
}

func userSessions(t *testing.T, s *testenv.Server, userID string, size int32, token string) ([]string, string) {
	t.Helper()
	resp, err := s.Admin.ListUserSessions(asAdmin(t), &latchkeyv1.ListUserSessionsRequest{UserId: userID, PageSize: size, PageToken: token})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var ids []string
	for _, sess := range resp.GetSessions() {
		ids = append(ids, sess.GetId())
		if sess.GetCurrent() {
			t.Errorf("%s is said to be the operator's", sess.GetId())
		}
	}
	return ids, resp.GetNextPageToken()
}

// Somebody has lost a device. An operator finds its session and ends it, on every replica, and no other.
func TestAttack19OperatorEndsOneSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	user := signUp(t, s, email)
	laptop, phone := device(t, s, "laptop"), device(t, s, "phone")
	bob := signUp(t, s, "bob@example.com")
	bobs := logIn(t, s, "bob@example.com")
	for _, at := range []*testenv.Server{s, replica} { // both have it in memory
		wantValid(t, at, phone.GetAccessToken(), 0)
	}
	first, next := userSessions(t, s, user.GetId(), 1, "")
	second, end := userSessions(t, replica, user.GetId(), 1, next)
	if len(first) != 1 || len(second) != 1 || first[0] != phone.GetSessionId() || second[0] != laptop.GetSessionId() || end != "" {
		t.Fatalf("listed %v and %v", first, second)
	}
	_, err := s.Admin.ListUserSessions(asAdmin(t), &latchkeyv1.ListUserSessionsRequest{UserId: bob.GetId(), PageToken: next})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	_, err = s.SessionService.ListSessions(as(t, laptop), &latchkeyv1.ListSessionsRequest{PageToken: next})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")

	for range 2 { // the second finds it ended
		revokeUserSession(t, s, user.GetId(), phone.GetSessionId())
		for _, at := range []*testenv.Server{s, replica} {
			wantEnded(t, at, phone)
		}
	}
	if left, _ := userSessions(t, s, user.GetId(), 0, ""); len(left) != 1 || left[0] != laptop.GetSessionId() {
		t.Errorf("listed %v", left)
	}
	laptop = wantLive(t, replica, laptop)
	if n := audited(t, s, "user_session_revoked", user.GetId()); n != 1 || count(t, s, "SELECT count(*) FROM revocations") != 1 {
		t.Errorf("%d events and these rows of one end: %v", n, ledgerRows(t, s))
	}
	// The session of another account does not exist under this account.
	revokeUserSession(t, s, user.GetId(), bobs.GetSessionId())
	wantLive(t, s, bobs)
	wantLive(t, s, laptop)

	for _, test := range []struct{ user, session, reason string }{
		{uuid.NewString(), laptop.GetSessionId(), "USER_NOT_FOUND"},
		{uuid.Nil.String(), laptop.GetSessionId(), "USER_NOT_FOUND"},
	} {
		wantRefused(t, tryRevokeUserSession(t, s, test.user, test.session), codes.NotFound, test.reason)
	}
	wantRefused(t, tryRevokeUserSession(t, s, user.GetId(), "phone"), codes.InvalidArgument, "VALIDATION_FAILED", "session_id")
	_, err = s.Admin.ListUserSessions(asAdmin(t), &latchkeyv1.ListUserSessionsRequest{UserId: uuid.NewString()})
	wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
	for _, key := range []string{laptop.GetAccessToken(), testenv.ServiceKey} {
		ctx := testenv.WithKey(t.Context(), key)
		_, err = s.Admin.RevokeUserSession(ctx, &latchkeyv1.RevokeUserSessionRequest{UserId: bob.GetId(), SessionId: bobs.GetSessionId()})
		wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
		_, err = s.Admin.ListUserSessions(ctx, &latchkeyv1.ListUserSessionsRequest{UserId: bob.GetId()})
		wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	}
}

// If Redis has lost the session or does not answer, it can still be ended. If Redis has the session again, it stays
// ended.
func TestAttack19OperatorEndsSessionWithoutRedis(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	phone := device(t, s, "phone")
	restore := copyRedis(t, s)
	if err := s.Redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, phone.GetAccessToken(), 0)
	revokeUserSession(t, s, user.GetId(), phone.GetSessionId())
	wantValid(t, s, phone.GetAccessToken(), ended)
	restore()
	wantEnded(t, s, phone)

	process := testenv.RedisServer(t)
	s = testenv.Start(t, testenv.Options{RedisURL: process.URL()})
	user = signUp(t, s, email)
	phone, laptop := device(t, s, "phone"), device(t, s, "laptop")
	process.Stop()
	for range 2 {
		revokeUserSession(t, s, user.GetId(), phone.GetSessionId())
		wantValid(t, s, phone.GetAccessToken(), ended)
		wantValid(t, s, laptop.GetAccessToken(), 0)
	}
	_, err := s.Admin.ListUserSessions(asAdmin(t), &latchkeyv1.ListUserSessionsRequest{UserId: user.GetId()})
	wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")

	s, store, mine, other, from := attackHanging(t, testenv.Options{})
	userID := wantValid(t, s, mine.GetAccessToken(), 0).GetUser().GetId()
	store.Freeze()
	took := timed(t, func() error {
		_, err := s.Admin.RevokeUserSession(from(testenv.AdminKey), &latchkeyv1.RevokeUserSessionRequest{UserId: userID, SessionId: other.GetSessionId()})
		return err
	})
	if took > soon {
		t.Errorf("while Redis hangs it took %s", took)
	}
	wantValid(t, s, other.GetAccessToken(), ended)
	wantValid(t, s, mine.GetAccessToken(), 0)
}
