package server_test

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// An old token that was not traded is spent without a trade. It is refused everywhere, also because of its own row in
// the ledger.
func TestLegacyLogout(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		other := legacyLogin(t, s, backend.User(t, old.Email))
		for _, at := range []*testenv.Server{s, replica, s} { // twice is fine
			logOut(t, at, old.RefreshToken)
		}
		for _, at := range []*testenv.Server{s, replica} {
			_, err := tryRefresh(t.Context(), at, old.RefreshToken, "request")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
			_, err = at.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: old.RefreshToken, AllSessions: true})
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		}
		if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE user_id = $1 AND session_id IS NULL", old.UserID); n != 1 {
			t.Errorf("%s: spent %d times", name, n)
		}
		if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'session' AND user_id = $1", old.UserID); n != 1 {
			t.Errorf("%s: %d rows of the ledger", name, n)
		}
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'logged_out' AND user_id = $1", old.UserID); n != 1 {
			t.Errorf("%s: %d audit events", name, n)
		}
		wantLive(t, s, other)
	}
	if n := len(sessionKeys(t, s)); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// A traded token ends the session that it was traded for.
func TestLegacyLogoutOfTraded(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		other := legacyLogin(t, s, backend.User(t, old.Email))
		traded := refresh(t, s, old.RefreshToken, "request")
		for range 2 {
			logOut(t, replica, old.RefreshToken)
		}
		wantValid(t, s, traded.GetAccessToken(), ended)
		_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		if n := count(t, s, "SELECT count(*) FROM revocations WHERE user_id = $1", old.UserID); n != 1 {
			t.Errorf("%s: %d rows of the ledger", name, n)
		}
		_, err = s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: old.RefreshToken, AllSessions: true})
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		wantLive(t, s, other)
	}
}

// A live old token, or the live session that it was traded for, can end all sessions of the account.
func TestLegacyLogoutAll(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		for _, traded := range []bool{false, true} {
			if traded {
				old = backend.Sessions[map[string]int{"go": 1, "rust": 5}[name]]
				refresh(t, s, old.RefreshToken, "request")
			}
			other := legacyLogin(t, s, backend.User(t, old.Email))
			request := &latchkeyv1.LogoutRequest{RefreshToken: old.RefreshToken, AllSessions: true}
			if _, err := replica.Auth.Logout(t.Context(), request); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wantValid(t, s, other.GetAccessToken(), ended)
			_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
			_, err = s.Auth.Logout(t.Context(), request)
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
			logOut(t, s, old.RefreshToken)
		}
	}
}

// If a trade and a logout happen at once, only one spends the token, and nobody stays logged in.
func TestLegacyLogoutMeetsTrade(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for _, old := range backend.Sessions {
		answers, errs := allAtOnce(8, func(i int) (*latchkeyv1.Tokens, error) {
			at := []*testenv.Server{s, replica}[i%2]
			if i%4 < 2 {
				return nil, tryLogout(t.Context(), at, old.RefreshToken)
			}
			return tryRefresh(t.Context(), at, old.RefreshToken, uuid.NewString())
		})
		for i, err := range errs {
			switch {
			case i%4 < 2:
				if err != nil {
					t.Errorf("log out: %v", err)
				}
			case err == nil:
				wantValid(t, s, answers[i].GetAccessToken(), ended)
			default:
				wantOneOf(t, err, "SESSION_ENDED", "REFRESH_TOKEN_INVALID")
			}
		}
	}
}
