package main

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// migrateDownTimes takes migrations back, the newest first.
func migrateDownTimes(t *testing.T, url string, times int) string {
	t.Helper()
	var out bytes.Buffer
	for range times {
		if err := run(t.Context(), []string{"migrate", "down", "--yes"}, []string{"LATCHKEY_DATABASE_URL=" + url}, &out); err != nil {
			t.Fatalf("%v after\n%s", err, out.String())
		}
		if strings.Contains(out.String(), "took back 00001_users.sql") {
			break
		}
	}
	return out.String()
}

// handedOut has the tokens that people have when the migrations are taken back.
type handedOut struct {
	access  []string // of an older backend, or valid for both
	refresh []string
	resets  []string
	alive   []string // access tokens that nothing has ended
}

// firstTakeover serves once, and ends tokens in every way.
func firstTakeover(t *testing.T, old *testenv.ExistingBackend) handedOut {
	t.Helper()
	s := testenv.Start(t, testenv.Options{Legacy: old, WallClock: true})
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admin := testenv.WithKey(t.Context(), testenv.AdminKey)
	var h handedOut
	reset := old.ResetTokens[0]
	var others []testenv.ExistingSession
	for _, session := range old.Sessions {
		if session.UserID != reset.UserID {
			others = append(others, session)
		}
	}
	suspended, traded, loggedOut, alive := others[0], others[1], others[2], others[3]
	must(s.Admin.SuspendUser(admin, &latchkeyv1.SuspendUserRequest{UserId: suspended.UserID.String()}))
	must(s.Admin.ReactivateUser(admin, &latchkeyv1.ReactivateUserRequest{UserId: suspended.UserID.String()}))
	must(s.Auth.ResetPassword(t.Context(), &latchkeyv1.ResetPasswordRequest{Token: reset.Token, NewPassword: "Correct-Horse-7-battery"}))
	must(s.Auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: traded.RefreshToken}))
	must(s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: loggedOut.RefreshToken}))
	valid, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: loggedOut.AccessToken})
	must(valid, err)
	must(s.SessionService.RevokeSession(testenv.WithKey(t.Context(), loggedOut.AccessToken), &latchkeyv1.RevokeSessionRequest{SessionId: valid.GetSessionId()}))
	for i := range old.Users {
		if old.Users[i].ID == reset.UserID {
			old.Users[i].Password = "Correct-Horse-7-battery"
		}
	}
	ours, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: old.Users[2].Email, Password: old.Users[2].Password})
	must(ours, err)
	must(s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: ours.GetTokens().GetRefreshToken()}))
	h.access = []string{suspended.AccessToken, loggedOut.AccessToken}
	h.refresh = []string{suspended.RefreshToken, traded.RefreshToken, loggedOut.RefreshToken, ours.GetTokens().GetRefreshToken()}
	h.resets, h.alive = []string{reset.Token}, []string{alive.AccessToken}
	// Redis is replaced by an older copy of itself: spent tokens are there again.
	must(s.Redis.Set(t.Context(), reset.Key, reset.UserID.String(), 20*time.Minute).Result())
	return h
}

// TestTakeoverAgain: after all or some of the migrations were taken back and the older backend has served, there is a
// second takeover. Everybody can log in, and nothing that had ended is valid again.
func TestTakeoverAgain(t *testing.T) {
	t.Parallel()
	for _, times := range []int{1, 17, 24, 100} {
		t.Run(strconv.Itoa(times), func(t *testing.T) {
			t.Parallel()
			old, settings := oldStores(t)
			takeoverApply(t, settings)
			var h handedOut
			t.Run("first", func(t *testing.T) { h = firstTakeover(t, old) })
			testenv.Eventually(t, patience, "PostgreSQL sees that it is gone", func() bool {
				return len(queryStrings(t, old.DatabaseURL, "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'latchkey%'")) == 0
			})
			out := migrateDownTimes(t, old.DatabaseURL, times)
			if times == 100 && !strings.Contains(out, "latchkey_taken_back stays") {
				t.Errorf("nobody is told:\n%s", out)
			}
			// The older backend serves alone: somebody signs up, and somebody logs in and changes the password.
			id := uuid.New()
			conn := connectTest(t, old.DatabaseURL)
			mustExec(t, conn, "INSERT INTO users (id, email, password_hash, first_name, last_name) SELECT $1, 'between@example.com', password_hash, 'F', 'L' FROM users WHERE id = $2", id, old.Users[0].ID)
			old.Users = append(old.Users, testenv.ExistingUser{ID: id, Email: "between@example.com", Password: old.Users[0].Password})
			mustExec(t, conn, "UPDATE users SET last_login_at = now() WHERE id = $1", id)

			code, report := takeoverCheck(t, settings)
			told := strings.Contains(strings.Join(findingCodes(report.Warnings), " "), "taken_back")
			if code == exitFailed || report.Applied || told != (times > 16) {
				t.Fatalf("second check: exit %d, %v, %+v", code, findingCodes(report.Warnings), report.Problems)
			}
			takeoverApply(t, settings)
			if code, report := takeoverCheck(t, settings); code != exitDone || report.Status != takeover.Clear {
				t.Errorf("check after: exit %d, %+v", code, report.Problems)
			}
			s := everybodyLogsIn(t, old)
			h.check(t, s, told)
		})
	}
}

// check shows all tokens again. all means that tokens that nothing has ended are refused too.
func (h handedOut) check(t *testing.T, s *testenv.Server, all bool) {
	t.Helper()
	for i, token := range append(h.access, h.alive...) {
		resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: token})
		if want := i >= len(h.access) && !all; err != nil || resp.GetValid() != want {
			t.Errorf("access token %d: valid=%v, want %v (%v)", i, resp.GetValid(), want, err)
		}
	}
	for i, token := range h.refresh {
		if _, err := s.Auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: token}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("refresh token %d: %v", i, err)
		}
	}
	for _, token := range h.resets {
		if _, err := s.Auth.ResetPassword(t.Context(), &latchkeyv1.ResetPasswordRequest{Token: token, NewPassword: "another-Passw0rd of mine"}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a spent reset token: %v", err)
		}
	}
}

// TestTakenBackIsNotedOnce: a database that never served does not change.
func TestTakenBackIsNotedOnce(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	before := catalog(t, old.DatabaseURL)
	takeoverApply(t, settings)
	migrateDownTimes(t, old.DatabaseURL, 100)
	if after := catalog(t, old.DatabaseURL); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("was\n%s\nis\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if err := run(t.Context(), []string{"migrate", "up"}, []string{"LATCHKEY_DATABASE_URL=" + old.DatabaseURL}, io.Discard); err != nil {
		t.Error(err)
	}
}
