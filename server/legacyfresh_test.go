package server_test

import (
	"crypto/rsa"
	"fmt"
	"math/rand/v2" //nolint:depguard // the seed of a failure is logged, so that it can be run again
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// issueMargin is how much later than a revocation a token must be issued to be good.
const issueMargin = time.Minute

// oldIssuer is a stand-in for one of the older backends. It can log somebody in at any time.
type oldIssuer struct {
	name  string
	login func(t *testing.T, user uuid.UUID, at time.Time) string
}

// oldIssuers returns both backends.
func oldIssuers(key *rsa.PrivateKey, secret string) []oldIssuer {
	return []oldIssuer{
		{"go", func(t *testing.T, user uuid.UUID, at time.Time) string {
			t.Helper()
			token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, goClaims{user.String(), "a@example.com", jwt.RegisteredClaims{
				Issuer: "saas-platform", Subject: user.String(), ID: uuid.NewString(),
				ExpiresAt: jwt.NewNumericDate(at.Add(24 * time.Hour)), NotBefore: jwt.NewNumericDate(at.Add(-time.Hour)), IssuedAt: jwt.NewNumericDate(at),
			}}).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}},
		{"rust", func(t *testing.T, user uuid.UUID, at time.Time) string {
			t.Helper()
			return rustToken(t, secret, user, at, 24*time.Hour)
		}},
	}
}

// After a reset, a suspension or a logout, at either side, a login at an older backend is accepted here if it is later
// than the revocation by more than the clocks may differ. A token from before is never accepted, on any replica,
// whether or not it was seen before.
func TestFreshOldLogins(t *testing.T) { //nolint:tparallel // each case ages all revocations
	t.Parallel()
	s, old, backend := sideBySide(t, 0)
	other := testenv.Start(t, testenv.Options{Legacy: backend, LegacyPublicKey: &old.key.PublicKey, Clock: s.Clock, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	bySQL := func(statements ...string) func(*testing.T, uuid.UUID) {
		return func(t *testing.T, user uuid.UUID) {
			t.Helper()
			for _, statement := range statements {
				execSQL(t, s, statement, user)
			}
		}
	}
	events := map[string]func(*testing.T, uuid.UUID){
		"reset at the old one":      bySQL("UPDATE users SET password_hash = password_hash || 'x', updated_at = now() WHERE id = $1"),
		"suspension at the old one": bySQL("UPDATE users SET is_active = false WHERE id = $1", "UPDATE users SET is_active = true WHERE id = $1"),
		"suspension here": func(t *testing.T, user uuid.UUID) {
			t.Helper()
			suspend(t, s, user.String())
			reactivate(t, s, user.String())
		},
		"reset here": func(t *testing.T, user uuid.UUID) {
			t.Helper()
			s.Redis.Set(t.Context(), "password_reset:"+user.String(), user.String(), time.Hour)
			execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '2 hours'") // no row refuses the token
			if err := tryReset(t.Context(), s, user.String(), newPassword); err != nil {
				t.Fatal(err)
			}
		},
		"logout here": func(t *testing.T, user uuid.UUID) {
			t.Helper()
			if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.String()}); err != nil {
				t.Fatal(err)
			}
		},
		"logout of everybody": func(t *testing.T, _ uuid.UUID) {
			t.Helper()
			if _, err := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, event := range events {
		for _, issuer := range oldIssuers(old.key, backend.JWT.Rust.Secret) {
			t.Run(name+", "+issuer.name, func(t *testing.T) {
				user := uuid.New()
				execSQL(t, s, "INSERT INTO users (id, email, password_hash, first_name, last_name) VALUES ($1, $2, 'x', 'F', 'L')", user, user.String()+"@example.com")
				execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '10 minutes'") // those of the last case
				seen := issuer.login(t, user, time.Now())
				wantValid(t, s, seen, 0)
				event(t, user)
				settled(t, s)
				settled(t, other)
				// Ten minutes pass.
				execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '10 minutes'")
				var at time.Time
				if err := s.Pool.QueryRow(t.Context(), "SELECT max(created_at) FROM revocations WHERE user_id = $1 OR kind = 'all'", user).Scan(&at); err != nil {
					t.Fatal(err)
				}
				for _, replica := range []*testenv.Server{s, other} {
					for after, reason := range map[time.Duration]latchkeyv1.ErrorReason{
						-time.Hour: ended, -time.Second: ended, 0: ended, time.Second: ended, issueMargin: ended,
						issueMargin + 2*time.Second: 0, 9 * time.Minute: 0,
					} {
						token := issuer.login(t, user, at.Add(after))
						wantValid(t, replica, token, reason)
						wantValid(t, replica, token, reason)
					}
				}
				wantValid(t, s, seen, ended) // it was seen before the revocation, which is older now
				fresh := issuer.login(t, user, at.Add(9*time.Minute))
				session := wantValid(t, s, fresh, 0).GetSessionId()
				if _, err := s.SessionService.RevokeSession(testenv.WithKey(t.Context(), fresh), &latchkeyv1.RevokeSessionRequest{SessionId: session}); err != nil {
					t.Fatal(err)
				}
				for _, replica := range []*testenv.Server{s, other} {
					settled(t, replica)
					wantValid(t, replica, fresh, ended)
				}
			})
		}
	}
}

// A backend whose clock is ahead by more than the margin has no advantage.
func TestOldLoginFromTheFuture(t *testing.T) {
	t.Parallel()
	s, _, backend := sideBySide(t, 0)
	user := backend.User(t, "nora0@example.com")
	if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.ID.String()}); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, rustToken(t, backend.JWT.Rust.Secret, user.ID, time.Now().Add(5*time.Minute), time.Hour), ended)
	// A revocation after the token was seen does not count as an older one either.
	another := backend.User(t, "nora1@example.com")
	token := rustToken(t, backend.JWT.Rust.Secret, another.ID, time.Now().Add(50*time.Second), time.Hour)
	wantValid(t, s, token, 0)
	if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: another.ID.String()}); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '10 minutes'")
	wantValid(t, s, token, ended)
}

// A refresh token of a later login is traded, and can end all sessions. One from before cannot.
func TestFreshOldRefresh(t *testing.T) {
	t.Parallel()
	s, _, backend := sideBySide(t, 0)
	user := backend.User(t, "nora0@example.com")
	keep := func(issued time.Time) string {
		token := rustToken(t, backend.JWT.Rust.Secret, user.ID, issued, 7*24*time.Hour)
		s.Redis.Set(t.Context(), "refresh_token:"+user.ID.String(), token, time.Hour)
		return token
	}
	if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.ID.String()}); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '10 minutes'")
	_, err := tryRefresh(t.Context(), s, keep(time.Now().Add(-11*time.Minute)), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	traded := refresh(t, s, keep(time.Now().Add(-8*time.Minute)), "")
	wantValid(t, s, traded.GetAccessToken(), 0)
	everywhere := func(issued time.Time) error {
		_, err := s.Auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: keep(issued), AllSessions: true})
		return err
	}
	wantRefused(t, everywhere(time.Now().Add(-11*time.Minute)), codes.Unauthenticated, "SESSION_ENDED")
	wantValid(t, s, traded.GetAccessToken(), 0)
	if err := everywhere(time.Now().Add(-7 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, traded.GetAccessToken(), ended)
}

// happening is a login at an older backend, or a revocation.
type happening struct {
	at    time.Duration // since the start, on PostgreSQL's clock
	token string        // "": a revocation
}

// TestOldLoginsInAnyOrder compares random histories with the rule that users expect: a token from before a revocation
// is refused, one from well after the last is accepted. The clock of the older backend is up to 55 seconds wrong, and
// the backend takes up to 4 seconds from reading the password to the token.
func TestOldLoginsInAnyOrder(t *testing.T) {
	t.Parallel()
	s, old, backend := sideBySide(t, 0)
	issuers := oldIssuers(old.key, backend.JWT.Rust.Secret)
	const histories, long, steps = 30, time.Hour, 9
	begin := time.Now().Add(-long - time.Minute).Truncate(time.Second)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	all := make([][]happening, histories)
	for h := range all {
		user := uuid.New()
		execSQL(t, s, "INSERT INTO users (id, email, password_hash, first_name, last_name) VALUES ($1, $2, 'x', 'F', 'L')", user, user.String()+"@example.com")
		skew := time.Duration(random.IntN(110)-55) * time.Second
		issuer := issuers[h%2]
		at := time.Duration(0)
		for range steps {
			at += time.Duration(random.IntN(int(long/steps/time.Millisecond))) * time.Millisecond
			if random.IntN(3) == 0 {
				execSQL(t, s, "SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, NULL)", user)
				execSQL(t, s, "UPDATE revocations SET created_at = $2 WHERE user_id = $1 AND seq = (SELECT max(seq) FROM revocations WHERE user_id = $1)", user, begin.Add(at))
				all[h] = append(all[h], happening{at: at})
				continue
			}
			slow := time.Duration(random.IntN(4000)) * time.Millisecond
			token := issuer.login(t, user, begin.Add(at+slow+skew))
			all[h] = append(all[h], happening{at, token})
			if random.IntN(2) == 0 { // it is seen before the next event
				settled(t, s)
				judgeHistory(t, s, all[h], skew)
			}
		}
		settled(t, s)
		judgeHistory(t, s, all[h], skew)
	}
	replica := testenv.Start(t, testenv.Options{Legacy: backend, LegacyPublicKey: &old.key.PublicKey, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	for _, history := range all {
		judgeHistory(t, replica, history, 55*time.Second)
	}
}

func judgeHistory(t *testing.T, s *testenv.Server, history []happening, skew time.Duration) {
	t.Helper()
	for i, login := range history {
		if login.token == "" {
			continue
		}
		endedLater, late := false, true
		for j, h := range history {
			if h.token != "" {
				continue
			}
			endedLater = endedLater || j > i
			late = late && login.at-h.at > issueMargin+skew.Abs()+time.Second
		}
		resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: login.token})
		if err != nil {
			t.Fatal(err)
		}
		if endedLater && resp.GetValid() || !endedLater && late && !resp.GetValid() {
			t.Errorf("login %d of %s: valid=%v", i, describeHistory(history), resp.GetValid())
		}
	}
}

func describeHistory(history []happening) string {
	var text strings.Builder
	for i, h := range history {
		what := "revoked"
		if h.token != "" {
			what = "login"
		}
		fmt.Fprintf(&text, "%d %s at %s, ", i, what, h.at)
	}
	return text.String()
}
