package server_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// oldSession returns the session id that represents a token of an older backend.
func oldSession(token string) string {
	sum := sha256.Sum256([]byte(token))
	id := uuid.UUID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id.String()
}

// oldTokens returns a live session of each backend.
func oldTokens(t *testing.T, backend *testenv.ExistingBackend) (byGo, byRust testenv.ExistingSession) {
	t.Helper()
	for _, sess := range backend.Sessions {
		if sess.IssuedBy == "go" {
			byGo = sess
		} else {
			byRust = sess
		}
	}
	if byGo.AccessToken == "" || byRust.AccessToken == "" {
		t.Fatal("the snapshot lacks a backend's sessions")
	}
	return byGo, byRust
}

// asOld makes calls with an access token of an older backend.
func asOld(t *testing.T, sess testenv.ExistingSession) context.Context {
	t.Helper()
	return testenv.WithKey(t.Context(), sess.AccessToken)
}

// rustToken makes a token in the same way as the Rust backend.
func rustToken(t *testing.T, secret string, user uuid.UUID, issued time.Time, life time.Duration) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user.String(), "iat": issued.Unix(), "exp": issued.Add(life).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Every access token that a client has is still accepted, and no refresh token is accepted as one. The second check
// uses no store.
func TestTokensInFlight(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, WallClock: true})
	began := time.Now()
	for range 2 {
		for _, sess := range backend.Sessions {
			resp := wantValid(t, s, sess.AccessToken, 0)
			if resp.GetUser().GetId() != sess.UserID.String() || resp.GetSessionId() != oldSession(sess.AccessToken) {
				t.Errorf("%s by %s: user %s, session %s", sess.Email, sess.IssuedBy, resp.GetUser().GetId(), resp.GetSessionId())
			}
			if life := resp.GetExpireTime().AsTime().Sub(began); (life - 90*24*time.Hour).Abs() > time.Minute {
				t.Errorf("%s by %s is accepted for %s, want no longer than the setting says", sess.Email, sess.IssuedBy, life)
			}
			wantValid(t, s, sess.RefreshToken, invalid)
		}
	}
	postgres, redis := s.Calls.Of("ValidateToken")
	for _, sess := range backend.Sessions {
		wantValid(t, s, sess.AccessToken, 0)
		wantValid(t, s, sess.RefreshToken, invalid)
	}
	if p, r := s.Calls.Of("ValidateToken"); p != postgres || r != redis {
		t.Errorf("%d statements and %d Redis commands for tokens that are known", p-postgres, r-redis)
	}
	// A refresh token is still known as one when Redis loses it.
	if err := s.Redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, sess := range backend.Sessions {
		wantValid(t, s, sess.AccessToken, 0)
		wantValid(t, s, sess.RefreshToken, invalid)
	}
	without := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	for _, sess := range backend.Sessions {
		wantValid(t, without, sess.AccessToken, invalid)
	}
}

// The refresh tokens of the Rust backend look like access tokens. If Redis does not know one, PostgreSQL knows whether
// it was traded, and otherwise its life shows its kind.
func TestRefreshTokensWithoutRedis(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	byGo, byRust := oldTokens(t, backend)
	if err := s.Redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wantValid(t, s, byGo.RefreshToken, invalid)
	execSQL(t, s, `INSERT INTO legacy_spent (token_hash, kind, user_id, spent_at, keep_until)
		VALUES (sha256($1::bytea), 'refresh', $2, now(), now() + interval '1 year')`, []byte(byRust.RefreshToken), byRust.UserID)
	wantValid(t, s, byRust.RefreshToken, invalid)
	now := s.Clock.Now()
	for life, reason := range map[time.Duration]latchkeyv1.ErrorReason{
		time.Hour: 0, 7 * 24 * time.Hour: invalid, 7*24*time.Hour + time.Second: invalid,
	} {
		wantValid(t, s, rustToken(t, backend.JWT.Rust.Secret, byRust.UserID, now, life), reason)
	}
}

// A replica that cannot find out whether a token is a refresh token refuses it. Known tokens need no store.
func TestOldTokensWithoutStores(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"Redis", "PostgreSQL"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			backend := testenv.Existing(t)
			if err := testenv.Migrate(t.Context(), backend.DatabaseURL); err != nil {
				t.Fatal(err)
			}
			database, store := testenv.NewProxy(t, backend.DatabaseURL), testenv.NewProxy(t, backend.RedisURL)
			s := testenv.Start(t, testenv.Options{Legacy: backend, DatabaseURL: database.URL(), RedisURL: store.URL(), WallClock: true, Lease: 10 * time.Second})
			byGo, byRust := oldTokens(t, backend)
			now := time.Now()
			another := rustToken(t, backend.JWT.Rust.Secret, byRust.UserID, now, time.Hour)
			wantValid(t, s, byGo.AccessToken, 0)
			wantValid(t, s, byRust.AccessToken, 0)
			if lost == "Redis" {
				store.Cut()
			} else {
				database.Cut()
			}
			_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: another})
			wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
			if lost == "Redis" {
				wantValid(t, s, byRust.AccessToken, 0)
				wantValid(t, s, byGo.AccessToken, 0)
			}
			store.Restore()
			database.Restore()
			testenv.Eventually(t, patience, "the token is accepted", func() bool {
				resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: another})
				return err == nil && resp.GetValid()
			})
		})
	}
}

// All that ends sessions also ends tokens that never had one, on every replica.
func TestOldTokensEnd(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	other := testenv.Start(t, testenv.Options{Legacy: backend, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	want := func(sess testenv.ExistingSession, reason latchkeyv1.ErrorReason) {
		t.Helper()
		wantValid(t, s, sess.AccessToken, reason)
		wantValid(t, other, sess.AccessToken, reason)
	}
	left := slices.Clone(backend.Sessions)
	take := func() testenv.ExistingSession {
		t.Helper()
		if len(left) < 2 {
			t.Fatal("the snapshot has too few sessions")
		}
		sess := left[0]
		left = left[1:]
		want(sess, 0)
		return sess
	}
	sess := take()
	suspend(t, s, sess.UserID.String())
	want(sess, disabled)
	_, err := s.SessionService.ListSessions(asOld(t, sess), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.PermissionDenied, "ACCOUNT_DISABLED")
	reactivate(t, s, sess.UserID.String())
	want(sess, ended)

	sess = take()
	if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: sess.UserID.String()}); err != nil {
		t.Fatal(err)
	}
	want(sess, ended)

	// An older backend does this on the same table.
	sess = take()
	execSQL(t, s, "UPDATE users SET password_hash = password_hash || 'x' WHERE id = $1", sess.UserID)
	settled(t, s)
	settled(t, other)
	want(sess, ended)

	sess = take()
	execSQL(t, s, "DELETE FROM users WHERE id = $1", sess.UserID)
	settled(t, s)
	settled(t, other)
	want(sess, notFound)

	for _, sess := range left {
		want(sess, 0)
	}
	if _, err := s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, sess := range left {
		want(sess, ended)
	}
	_, err = s.SessionService.ListSessions(asOld(t, left[0]), &latchkeyv1.ListSessionsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
}

// A token without a session can list the account's sessions, end one, itself, or all others, and change the password.
func TestOldTokensOwnSessions(t *testing.T) {
	t.Parallel()
	for _, issuer := range []string{"go", "rust"} {
		t.Run(issuer, func(t *testing.T) {
			t.Parallel()
			backend := testenv.Existing(t)
			s := testenv.Start(t, testenv.Options{Legacy: backend})
			sess, byRust := oldTokens(t, backend)
			if issuer == "rust" {
				sess = byRust
			}
			user := backend.User(t, sess.Email)
			tokens := func() *latchkeyv1.Tokens {
				t.Helper()
				resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
				if err != nil {
					t.Fatal(err)
				}
				return resp.GetTokens()
			}
			mine, another := tokens(), tokens()
			by := asOld(t, sess)
			listed, err := s.SessionService.ListSessions(by, &latchkeyv1.ListSessionsRequest{})
			if err != nil || len(listed.GetSessions()) != 2 || listed.GetSessions()[0].GetCurrent() || listed.GetSessions()[1].GetCurrent() {
				t.Fatalf("listed %v, %v, want the two others", listed, err)
			}
			if got, err := s.SessionService.GetSession(by, &latchkeyv1.GetSessionRequest{SessionId: mine.GetSessionId()}); err != nil || got.GetSession().GetCurrent() {
				t.Errorf("another session: %v, %v", got, err)
			}
			_, err = s.SessionService.GetSession(by, &latchkeyv1.GetSessionRequest{SessionId: oldSession(sess.AccessToken)})
			wantRefused(t, err, codes.NotFound, "SESSION_NOT_FOUND")
			if _, err := s.SessionService.RevokeSession(by, &latchkeyv1.RevokeSessionRequest{SessionId: mine.GetSessionId()}); err != nil {
				t.Fatal(err)
			}
			wantValid(t, s, mine.GetAccessToken(), ended)
			wantValid(t, s, another.GetAccessToken(), 0)

			// Another old token of the same account. The test can make one of Rust's.
			second := rustToken(t, backend.JWT.Rust.Secret, sess.UserID, s.Clock.Now(), time.Hour)
			wantValid(t, s, second, 0)
			if _, err := s.SessionService.RevokeOtherSessions(by, &latchkeyv1.RevokeOtherSessionsRequest{}); err != nil {
				t.Fatal(err)
			}
			wantValid(t, s, another.GetAccessToken(), ended)
			wantValid(t, s, second, ended)
			wantValid(t, s, sess.AccessToken, 0)

			third := tokens()
			_, err = s.Auth.ChangePassword(by, &latchkeyv1.ChangePasswordRequest{CurrentPassword: "wrong", NewPassword: "another-Passw0rd of mine"})
			wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
			_, err = s.Auth.ChangePassword(by, &latchkeyv1.ChangePasswordRequest{CurrentPassword: user.Password, NewPassword: "another-Passw0rd of mine"})
			if err != nil {
				t.Fatal(err)
			}
			wantValid(t, s, third.GetAccessToken(), ended)
			wantValid(t, s, sess.AccessToken, 0)
			user.Password = "another-Passw0rd of mine"
			fourth := tokens()

			// Itself, by its own id, and from a session of the account.
			if _, err := s.SessionService.RevokeSession(by, &latchkeyv1.RevokeSessionRequest{SessionId: oldSession(sess.AccessToken)}); err != nil {
				t.Fatal(err)
			}
			wantValid(t, s, sess.AccessToken, ended)
			wantValid(t, s, fourth.GetAccessToken(), 0)
		})
	}
}

// A session of the account ends one token and no other.
func TestOldTokenEndedBySession(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	_, sess := oldTokens(t, backend)
	user := backend.User(t, sess.Email)
	login, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	second := rustToken(t, backend.JWT.Rust.Secret, sess.UserID, s.Clock.Now(), time.Hour)
	revokeSession(t, s, login.GetTokens(), wantValid(t, s, sess.AccessToken, 0).GetSessionId())
	wantValid(t, s, sess.AccessToken, ended)
	wantValid(t, s, second, 0)
	// It cannot end tokens of other accounts: the row names the caller's account.
	byGo, _ := oldTokens(t, backend)
	revokeSession(t, s, login.GetTokens(), wantValid(t, s, byGo.AccessToken, 0).GetSessionId())
	wantValid(t, s, byGo.AccessToken, 0)
}

// The tokens of each backend are good only with its own key.
func TestOtherKeys(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	backend := testenv.Existing(t)
	byGo, byRust := oldTokens(t, backend)
	s := testenv.Start(t, testenv.Options{Legacy: backend, LegacyPublicKey: &key.PublicKey})
	wantValid(t, s, byGo.AccessToken, invalid)
	wantValid(t, s, byRust.AccessToken, 0)
	changed := *backend
	changed.JWT.Rust.Secret += "x"
	s = testenv.Start(t, testenv.Options{Legacy: &changed})
	wantValid(t, s, byGo.AccessToken, 0)
	wantValid(t, s, byRust.AccessToken, invalid)
	// The public key is no secret: a token that is signed with it as a secret is refused.
	wantValid(t, s, rustToken(t, string(backend.PublicKey), byRust.UserID, s.Clock.Now(), time.Hour), invalid)
}

// After the configured date none is accepted, known or not.
func TestAcceptUntil(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, LegacyUntil: 20 * time.Second})
	byGo, byRust := oldTokens(t, backend)
	s.Clock.Advance(20*time.Second - 1)
	wantValid(t, s, byGo.AccessToken, 0)
	wantValid(t, s, byRust.AccessToken, 0)
	s.Clock.Advance(1)
	for _, sess := range backend.Sessions {
		wantValid(t, s, sess.AccessToken, expired)
	}
}

// A revocation stays in force as long as the token that it ended would be accepted. That is much longer than the lives
// of tokens and sessions here, and holds after sweeps and for new replicas.
func TestOldTokensStayEnded(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	revoked, suspended, good := backend.Sessions[0], backend.Sessions[1], backend.Sessions[2]
	// It is issued before the events in this test, even after they are moved back by 80 days.
	suspended.AccessToken = rustToken(t, backend.JWT.Rust.Secret, suspended.UserID, s.Clock.Now().Add(-100*24*time.Hour), 100_000*time.Hour)
	wantValid(t, s, suspended.AccessToken, 0)
	if _, err := s.SessionService.RevokeSession(asOld(t, revoked), &latchkeyv1.RevokeSessionRequest{SessionId: oldSession(revoked.AccessToken)}); err != nil {
		t.Fatal(err)
	}
	suspend(t, s, suspended.UserID.String())
	reactivate(t, s, suspended.UserID.String())
	// A replica without the setting for the takeover does not undo it.
	unaware := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	ofNow := account(t, unaware)
	logOut(t, unaware, ofNow.GetRefreshToken())

	const months = 80 * 24 * time.Hour
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - $1::interval, keep_until = keep_until - $1::interval", months)
	execSQL(t, s, "UPDATE ledger_head SET legacy_until = legacy_until - $1::interval", months)
	upkeep := jobs.Upkeep{Pool: s.Pool, AuditRetention: months, Now: time.Now}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE session_id = $1", ofNow.GetSessionId()); n > 0 && n != count(t, s, "SELECT count(*) FROM revocations r, ledger_head h WHERE r.seq = h.seq AND session_id = $1", ofNow.GetSessionId()) {
		t.Error("the end of a session here is kept as long")
	}
	again := testenv.Start(t, testenv.Options{Legacy: backend, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, LegacyUntil: 10 * 24 * time.Hour})
	wantValid(t, again, revoked.AccessToken, ended)
	wantValid(t, again, suspended.AccessToken, ended)
	wantValid(t, again, good.AccessToken, 0)
	rows, _ := catchUp(t, watch(t, again, ""))
	if len(rows) != 0 {
		t.Errorf("a watcher, which accepts no old token, is sent %d rows that concern nothing else", len(rows))
	}
	// PostgreSQL has them too, for a replica that does not trust its memory.
	if n := count(t, again, "SELECT count(*) FROM revocations WHERE kind = 'user' AND user_id = $1", suspended.UserID); n != 2 {
		t.Errorf("%d rows of the account are left, want 2", n)
	}
}

// Rows that were swept before any old token was accepted may have refused an old token. Tokens issued since then are
// accepted.
func TestForgottenEnds(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	if err := testenv.Migrate(t.Context(), backend.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	unaware := testenv.Start(t, testenv.Options{DatabaseURL: backend.DatabaseURL, RedisURL: backend.RedisURL})
	byGo, byRust := oldTokens(t, backend)
	if _, err := unaware.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: byGo.UserID.String()}); err != nil {
		t.Fatal(err)
	}
	logOut(t, unaware, account(t, unaware).GetRefreshToken()) // the newest row is never deleted
	issued := time.Unix(1795488680, 0)                        // "iat" in the snapshot
	lost := issued.Add(time.Hour)
	execSQL(t, unaware, "UPDATE revocations SET created_at = $1, keep_until = now() - interval '1 minute'", lost)
	upkeep := jobs.Upkeep{Pool: unaware.Pool, AuditRetention: time.Hour, Now: time.Now}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := testenv.Start(t, testenv.Options{Legacy: backend, DatabaseURL: backend.DatabaseURL, RedisURL: backend.RedisURL})
	wantValid(t, s, byGo.AccessToken, ended)
	wantValid(t, s, byRust.AccessToken, ended)
	for _, refreshToken := range []string{byGo.RefreshToken, byRust.RefreshToken} {
		_, err := tryRefresh(t.Context(), s, refreshToken, "")
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	}
	for age, reason := range map[time.Duration]latchkeyv1.ErrorReason{time.Minute: ended, 3 * time.Minute: 0} {
		wantValid(t, s, rustToken(t, backend.JWT.Rust.Secret, byRust.UserID, lost.Add(age), 100_000*time.Hour), reason)
	}
}
