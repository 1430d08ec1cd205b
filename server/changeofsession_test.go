package server_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// endsOfASession are the ways in which one session ends, and no other of its account does.
func endsOfASession() map[string]func(t *testing.T, s *testenv.Server, thief, owner *latchkeyv1.Tokens) {
	return map[string]func(t *testing.T, s *testenv.Server, thief, owner *latchkeyv1.Tokens){
		"by its owner": func(t *testing.T, s *testenv.Server, thief, owner *latchkeyv1.Tokens) {
			t.Helper()
			revokeSession(t, s, owner, thief.GetSessionId())
		},
		"by an operator": func(t *testing.T, s *testenv.Server, thief, owner *latchkeyv1.Tokens) {
			t.Helper()
			revokeUserSession(t, s, claimsOf(t, s, owner.GetAccessToken()).UserID.String(), thief.GetSessionId())
		},
		"by a logout": func(t *testing.T, s *testenv.Server, thief, _ *latchkeyv1.Tokens) {
			t.Helper()
			logOut(t, s, thief.GetRefreshToken())
		},
		"by a reuse": func(t *testing.T, s *testenv.Server, thief, _ *latchkeyv1.Tokens) {
			t.Helper()
			refresh(t, s, refresh(t, s, thief.GetRefreshToken(), "").GetRefreshToken(), "")
			s.Clock.Advance(time.Minute)
			_, err := tryRefresh(t.Context(), s, thief.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
		},
	}
}

// A thief with a session asks for a change to an address of their own, and its owner, who has a mail about that, ends the
// session. The change ends with it, although no other session does.
func TestChangeEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for name, end := range endsOfASession() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			thief, mailed := asked(t, s, email, newEmail)
			owner := logIn(t, s, email)
			end(t, s, thief, owner)
			wantRefused(t, confirmLink(t.Context(), s, mailed.token), codes.InvalidArgument, "LINK_INVALID", "token")
			wantRefused(t, confirmCode(t.Context(), s, newEmail, mailed.code), codes.InvalidArgument, "CODE_INVALID", "code")
			wantAddress(t, []*testenv.Server{s}, owner, email)
		})
	}
}

// The same if the session ends while the change is under way: the end of a session does not wait for the account.
func TestChangeEndsWithItsSessionMeanwhile(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	thief, mailed := asked(t, s, email, newEmail)
	owner := logIn(t, s, email)
	waited, goOn := stopAt(t, s, "UPDATE ON users")
	answer := make(chan error, 1)
	go func() { answer <- confirmLink(t.Context(), s, mailed.token) }()
	waited()
	logOut(t, s, thief.GetRefreshToken())
	goOn()
	wantRefused(t, <-answer, codes.InvalidArgument, "LINK_INVALID", "token")
	wantAddress(t, []*testenv.Server{s}, owner, email)
}

// Of two sessions that ask for the same address, the last one counts.
func TestChangeIsOfTheLastSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first, mailed := asked(t, s, email, newEmail)
	second := logIn(t, s, email)
	if err := askChange(as(t, second), s, newEmail); err != nil {
		t.Fatal(err)
	}
	logOut(t, s, first.GetRefreshToken())
	if err := confirmLink(t.Context(), s, mailed.token); err != nil {
		t.Error("the session that asked last is there:", err)
	}
	wantAddress(t, []*testenv.Server{s}, second, newEmail)
}

// Nothing is mailed to the new address if the session ends before that.
func TestNoMailForAChangeOfAnEndedSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, thief := provenAccount(t, s, email)
	waited, goOn := stopAtCommit(t, s, "INSERT ON audit_events")
	answer, locked := make(chan error, 1), make(chan pgx.Tx, 1)
	go func() { answer <- askChange(as(t, thief), s, newEmail) }()
	waited()
	go func() { // it comes before the sender of mails
		tx, err := s.Pool.Begin(t.Context())
		if err == nil {
			_, err = tx.Exec(t.Context(), "SELECT FROM users FOR UPDATE")
		}
		if err != nil {
			t.Error(err)
		}
		locked <- tx
	}()
	testenv.Eventually(t, patience, "the lock is waited for", func() bool { return lockWaits(t, s) > 1 })
	goOn()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	tx := <-locked
	logOut(t, s, thief.GetRefreshToken())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	settledJobs(t, s)
	if n := len(lettersTo(s, newEmail, "")); n != 0 {
		t.Errorf("%d mails", n)
	}
	if n := len(lettersTo(s, email, "was asked for")); n != 1 {
		t.Errorf("the owner got %d mails about the request", n)
	}
}
