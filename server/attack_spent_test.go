package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// A refresh token that was spent long ago cannot end all sessions of the account. It ends its own session, as in a
// refresh, and no other.
func TestAttack14LogoutAllBySpentToken(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first := account(t, s)
	owner := logIn(t, s, email)
	second := refresh(t, s, first.GetRefreshToken(), "request-1")
	s.Clock.Advance(testenv.Grace + time.Second)
	wantRefused(t, tryLogoutAll(t.Context(), s, first.GetRefreshToken()), codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	wantValid(t, s, owner.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	wantValid(t, s, second.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	// Again, and with the session's latest token: the session has ended, and there are no more rows.
	rows := count(t, s, "SELECT count(*) FROM revocations")
	for _, token := range []string{first.GetRefreshToken(), second.GetRefreshToken()} {
		wantRefused(t, tryLogoutAll(t.Context(), s, token), codes.Unauthenticated, "SESSION_ENDED")
	}
	if more := count(t, s, "SELECT count(*) FROM revocations"); more != rows {
		t.Errorf("%d rows, want %d", more, rows)
	}
	wantValid(t, s, owner.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
}

// An owner whose refresh was not answered yet can still log out of all sessions. A request that was overtaken does
// nothing.
func TestAttack14LogoutAllWithinGrace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first := account(t, s)
	second := refresh(t, s, first.GetRefreshToken(), "")
	third := refresh(t, s, second.GetRefreshToken(), "")
	wantRefused(t, tryLogoutAll(t.Context(), s, first.GetRefreshToken()), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	wantValid(t, s, third.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	s.Clock.Advance(testenv.Grace)
	if err := tryLogoutAll(t.Context(), s, second.GetRefreshToken()); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, third.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// It still ends its own session, so that a client that lost an answer can get rid of it.
func TestAttack14LogoutBySpentToken(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	first := tokens.GetRefreshToken()
	for range 3 {
		tokens = refresh(t, s, tokens.GetRefreshToken(), "")
		s.Clock.Advance(time.Minute)
	}
	logOut(t, s, first)
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// The same with a token of an older backend.
func TestAttack14LogoutAllByTradedToken(t *testing.T) { //nolint:tparallel // the parts share a clock
	t.Parallel()
	backend, s, _ := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		t.Run(name, func(t *testing.T) {
			other := legacyLogin(t, s, userByID(t, backend, old.UserID))
			traded := refresh(t, s, old.RefreshToken, "")
			s.Clock.Advance(testenv.Grace + time.Second)
			wantRefused(t, tryLogoutAll(t.Context(), s, old.RefreshToken), codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
			wantValid(t, s, other.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
			wantValid(t, s, traded.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
			wantRefused(t, tryLogoutAll(t.Context(), s, old.RefreshToken), codes.Unauthenticated, "SESSION_ENDED")
		})
	}
}

// Redis is restored from an older copy, with tokens that were spent since then. PostgreSQL knows that they were.
func TestAttack14RolledBackRedis(t *testing.T) {
	t.Parallel()
	for name, show := range map[string]func(t *testing.T, s *testenv.Server, token string) error{
		"refresh": func(t *testing.T, s *testenv.Server, token string) error {
			t.Helper()
			_, err := tryRefresh(t.Context(), s, token, "")
			return err
		},
		"log out everywhere": func(t *testing.T, s *testenv.Server, token string) error {
			t.Helper()
			return tryLogoutAll(t.Context(), s, token)
		},
	} {
		for generations := 1; generations <= 3; generations++ {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := testenv.Start(t, testenv.Options{})
				tokens := account(t, s)
				bystander := logIn(t, s, email)
				restore := copyRedis(t, s)
				stolen := tokens.GetRefreshToken()
				for range generations {
					tokens = refresh(t, s, tokens.GetRefreshToken(), "")
					s.Clock.Advance(time.Minute)
				}
				restore()
				wantRefused(t, show(t, s, stolen), codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
				wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
				wantValid(t, s, bystander.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
			})
		}
	}
}

// The owner notices nothing, at whatever moment in the life of the session it happens, and the owner's refresh brings
// Redis forward.
func TestAttack14OwnerAfterRollback(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	var former string
	for range 12 {
		restore := copyRedis(t, s)
		for range 3 {
			s.Clock.Advance(10 * time.Minute)
			former = tokens.GetRefreshToken()
			tokens = refresh(t, s, former, "")
		}
		restore()
		tokens = refresh(t, s, tokens.GetRefreshToken(), "")
	}
	// The same with a token whose answer was lost at that moment.
	restore := copyRedis(t, s)
	lost := tokens.GetRefreshToken()
	refresh(t, s, lost, "request-1")
	restore()
	s.Clock.Advance(testenv.Grace)
	tokens = refresh(t, s, lost, "request-1")
	s.Clock.Advance(time.Minute)
	wantRefused(t, func() error { _, err := tryRefresh(t.Context(), s, former, ""); return err }(), codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// The same with a session for which a token of an older backend was traded. A retry of the trade would get its first
// refresh token again.
func TestAttack14RolledBackTrade(t *testing.T) { //nolint:tparallel // the parts share a clock
	t.Parallel()
	backend, s, _ := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		t.Run(name, func(t *testing.T) {
			tokens := refresh(t, s, old.RefreshToken, "request-1")
			restore := copyRedis(t, s)
			for range 2 {
				tokens = refresh(t, s, tokens.GetRefreshToken(), "")
				s.Clock.Advance(time.Minute)
			}
			restore()
			_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request-1")
			wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
			wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
		})
	}
}

// Marks are written rarely, one for each session, and are deleted with it.
func TestAttack14MarksAreBounded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	marks := func() int { return count(t, s, "SELECT count(*) FROM session_marks") }
	written := func() int { return count(t, s, "SELECT generation FROM session_marks") }
	changes, last := 0, 0
	for range 100 {
		tokens = refresh(t, s, tokens.GetRefreshToken(), "")
		if now := written(); now != last {
			changes, last = changes+1, now
		}
	}
	if changes > 15 || last < 80 {
		t.Errorf("100 refreshes at once wrote %d times, up to %d", changes, last)
	}
	s.Clock.Advance(time.Hour)
	tokens = refresh(t, s, tokens.GetRefreshToken(), "")
	if written() != 102 {
		t.Errorf("an hour later the mark is %d", written())
	}
	// Any number of logins leaves no more marks than sessions.
	for range 60 {
		refresh(t, s, logIn(t, s, email).GetRefreshToken(), "")
	}
	if n := marks(); n > testenv.SessionLimit {
		t.Errorf("%d marks of one account", n)
	}
	mine := refresh(t, s, logIn(t, s, email).GetRefreshToken(), "")
	if err := tryRevokeOthers(t, s, mine); err != nil {
		t.Fatal(err)
	}
	if n := marks(); n != 1 {
		t.Errorf("%d marks after all other sessions were ended", n)
	}
	logOut(t, s, mine.GetRefreshToken())
	if n := marks(); n != 0 {
		t.Errorf("%d marks of ended sessions", n)
	}
	refresh(t, s, logIn(t, s, email).GetRefreshToken(), "")
	s.Clock.Advance(testenv.MaxTTL + 2*time.Hour)
	if err := (jobs.Upkeep{Pool: s.Pool, AuditRetention: time.Hour, Now: s.Clock.Now}).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := marks(); n != 0 {
		t.Errorf("%d marks of sessions that are too old", n)
	}
	_ = tokens
}
