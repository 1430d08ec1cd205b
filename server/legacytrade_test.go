package server_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// takeover starts a server with the snapshot, and a second replica.
func takeover(t *testing.T) (backend *testenv.ExistingBackend, s, replica *testenv.Server) {
	t.Helper()
	backend = testenv.Existing(t)
	s = testenv.Start(t, testenv.Options{Legacy: backend})
	return backend, s, replicaOf(t, s, backend)
}

func replicaOf(t *testing.T, s *testenv.Server, backend *testenv.ExistingBackend) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{Legacy: backend, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
}

// oneOfEach returns a session of each backend.
func oneOfEach(t *testing.T, backend *testenv.ExistingBackend) map[string]testenv.ExistingSession {
	t.Helper()
	found := map[string]testenv.ExistingSession{}
	for _, old := range backend.Sessions {
		found[old.IssuedBy] = old
	}
	if len(found) != 2 {
		t.Fatalf("sessions of %d backends", len(found))
	}
	return found
}

func claimsOf(t *testing.T, s *testenv.Server, accessToken string) *accesstoken.Claims {
	t.Helper()
	claims, err := s.Keyring.Verify(t.Context(), accessToken)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// issuedAt reads "iat" of a token without checking it.
func issuedAt(t *testing.T, old string) time.Time {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(old, &jwt.RegisteredClaims{})
	if err != nil {
		t.Fatal(err)
	}
	at, err := parsed.Claims.GetIssuedAt()
	if err != nil || at == nil {
		t.Fatalf("iat %v, %v", at, err)
	}
	return at.Time
}

// Every refresh token of the snapshot can be traded for a session, once.
func TestLegacyTrade(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	logins := count(t, s, "SELECT count(*) FROM users WHERE last_login_at IS NOT NULL")
	for _, old := range backend.Sessions {
		tokens := refresh(t, s, old.RefreshToken, "")
		valid := wantValid(t, replica, tokens.GetAccessToken(), 0)
		if valid.GetUser().GetEmail() != old.Email || valid.GetSessionId() != tokens.GetSessionId() {
			t.Errorf("%s got a session of %v", old.Email, valid)
		}
		claims := claimsOf(t, s, tokens.GetAccessToken())
		if want := issuedAt(t, old.RefreshToken); !claims.AuthTime.Equal(want) || len(claims.AMR) != 1 || claims.AMR[0] != "pwd" {
			t.Errorf("proved at %v by %v, want %v by pwd", claims.AuthTime, claims.AMR, want)
		}
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'legacy_refresh_traded' AND session_id = $1", tokens.GetSessionId()); n != 1 {
			t.Errorf("%d audit events", n)
		}
		// A second trade within the grace is refused, and does not end the session of the first.
		for _, at := range []*testenv.Server{s, replica} {
			_, err := tryRefresh(t.Context(), at, old.RefreshToken, "")
			wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
		}
		refresh(t, replica, tokens.GetRefreshToken(), "")
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE last_login_at IS NOT NULL"); n != logins {
		t.Error("a trade counts as a login")
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE kind = 'refresh' AND keep_until > now() + interval '10 years'"); n != len(backend.Sessions) {
		t.Errorf("%d tokens are remembered as long as they live", n)
	}
}

// A spent token that is shown again after the grace means that two have it. The traded session is ended, once, and no
// other.
func TestLegacyReuse(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		other := legacyLogin(t, s, backend.User(t, old.Email))
		tokens := refresh(t, s, old.RefreshToken, "the-owners-request")
		s.Clock.Advance(testenv.Grace + time.Millisecond)
		_, err := tryRefresh(t.Context(), replica, old.RefreshToken, "a-thiefs-request")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
		for _, at := range []*testenv.Server{s, replica} {
			wantValid(t, at, tokens.GetAccessToken(), ended)
			for _, requestID := range []string{"", "the-owners-request"} {
				_, err = tryRefresh(t.Context(), at, old.RefreshToken, requestID)
				wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
			}
			_, err = tryRefresh(t.Context(), at, tokens.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		}
		if n := count(t, s, "SELECT count(*) FROM revocations WHERE session_id = $1", tokens.GetSessionId()); n != 1 {
			t.Errorf("%s: %d rows of the ledger", name, n)
		}
		if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'refresh_reused' AND session_id = $1", tokens.GetSessionId()); n != 1 {
			t.Errorf("%s: %d audit events", name, n)
		}
		wantLive(t, s, other)
	}
}

func wantOneOf(t *testing.T, err error, reasons ...string) {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && slices.Contains(reasons, info.GetReason()) {
			return
		}
	}
	t.Errorf("%v, want one of %v", err, reasons)
}

func legacyLogin(t *testing.T, s *testenv.Server, user testenv.ExistingUser) *latchkeyv1.Tokens {
	t.Helper()
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetTokens()
}

// keptAs returns the key under which the token is stored: its jti, or the user.
func keptAs(t *testing.T, old testenv.ExistingSession) string {
	t.Helper()
	var said jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(old.RefreshToken, &said); err != nil {
		t.Fatal(err)
	}
	return cmp.Or(said.ID, old.UserID.String())
}

// The request id of the trade gets the same answer again, at any time, on any replica, until the answer was used.
func TestLegacyLostAnswer(t *testing.T) {
	t.Parallel()
	backend, s, replica := takeover(t)
	for name, old := range oneOfEach(t, backend) {
		first := refresh(t, s, old.RefreshToken, "request-1")
		// The data of its backend is not needed any more.
		s.Redis.Del(t.Context(), s.Redis.Keys(t.Context(), "refresh_token:"+keptAs(t, old)).Val()...)
		again := refresh(t, replica, old.RefreshToken, "request-1")
		if again.GetRefreshToken() != first.GetRefreshToken() || again.GetAccessToken() != first.GetAccessToken() || again.GetSessionId() != first.GetSessionId() {
			t.Errorf("%s: another answer within the grace", name)
		}
		s.Clock.Advance(time.Hour)
		again = refresh(t, replica, old.RefreshToken, "request-1")
		if again.GetRefreshToken() != first.GetRefreshToken() || again.GetAccessToken() == first.GetAccessToken() {
			t.Errorf("%s: after an hour another refresh token, or an access token that has expired", name)
		}
		wantValid(t, s, again.GetAccessToken(), 0)
		// After the answer was used, its owner has it, so a token that is shown now is a copy.
		second := refresh(t, s, again.GetRefreshToken(), "")
		_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request-1")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
		wantValid(t, s, second.GetAccessToken(), ended)
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE convert_from(request_hash, 'LATIN1') LIKE '%request%'"); n != 0 {
		t.Error("the request id is stored")
	}
	// Within the grace it is late, not stolen.
	old := backend.Sessions[0]
	first := refresh(t, s, old.RefreshToken, "request-1")
	second := refresh(t, s, first.GetRefreshToken(), "")
	_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request-1")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	wantValid(t, s, second.GetAccessToken(), 0)
}

// Of many trades at once exactly one gets the session, unless they are repeats of one client: then all have the same.
func TestLegacyTradeAtOnce(t *testing.T) {
	t.Parallel()
	for name, requestID := range map[string]string{"strangers": "", "one client": "its-request"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend, s, replica := takeover(t)
			for by, old := range oneOfEach(t, backend) {
				before := len(sessionKeys(t, s))
				answers, errs := allAtOnce(50, func(i int) (*latchkeyv1.Tokens, error) {
					return tryRefresh(t.Context(), []*testenv.Server{s, replica}[i%2], old.RefreshToken, requestID)
				})
				var winner *latchkeyv1.Tokens
				won := 0
				for i, err := range errs {
					if err != nil {
						wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
						continue
					}
					won++
					if winner != nil && winner.GetRefreshToken() != answers[i].GetRefreshToken() {
						t.Errorf("%s: two refresh tokens", by)
					}
					winner = answers[i]
				}
				want := map[string]int{"": 1, "its-request": 50}[requestID]
				if won != want {
					t.Fatalf("%s: %d of 50 got a session, want %d", by, won, want)
				}
				if n := len(sessionKeys(t, s)); n != before+1 {
					t.Errorf("%s: %d sessions", by, n-before)
				}
				wantLive(t, replica, winner)
			}
		})
	}
}

// allAtOnce makes n calls that start together.
func allAtOnce[T any](n int, call func(i int) (T, error)) ([]T, []error) {
	answers, errs := make([]T, n), make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			answers[i], errs[i] = call(i)
		})
	}
	close(start)
	group.Wait()
	return answers, errs
}

// PostgreSQL decides whether a token was spent, and Redis whether it exists. A trade that fails spends nothing.
func TestLegacyTradeAndRedis(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	store := testenv.NewProxy(t, backend.RedisURL)
	direct := backend.RedisURL
	backend.RedisURL = store.URL()
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	backend.RedisURL = direct
	for name, old := range oneOfEach(t, backend) {
		t.Log(name)
		store.Cut()
		_, err := tryRefresh(t.Context(), s, old.RefreshToken, "")
		wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
		store.Restore()
		testenv.Eventually(t, patience, "Redis answers", func() bool { return s.Redis.Ping(t.Context()).Err() == nil })
		// The session cannot be created, so the token stays good.
		index := "latchkey:sessions:{" + old.UserID.String() + "}"
		if err := s.Redis.Set(t.Context(), index, "not a list", 0).Err(); err != nil {
			t.Fatal(err)
		}
		_, err = tryRefresh(t.Context(), s, old.RefreshToken, "")
		wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
		s.Redis.Del(t.Context(), index)
		// The same if the event cannot be recorded.
		execSQL(t, s, "ALTER TABLE audit_events RENAME TO audit_events_gone")
		_, err = tryRefresh(t.Context(), s, old.RefreshToken, "")
		if status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		execSQL(t, s, "ALTER TABLE audit_events_gone RENAME TO audit_events")
		// The same if a step after the session fails.
		execSQL(t, s, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
			CREATE TRIGGER refuse BEFORE UPDATE ON legacy_spent FOR EACH ROW EXECUTE FUNCTION refuse()`)
		_, err = tryRefresh(t.Context(), s, old.RefreshToken, "")
		if status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		execSQL(t, s, "DROP FUNCTION refuse CASCADE")
		if n := count(t, s, "SELECT count(*) FROM legacy_spent"); n != 0 || len(sessionKeys(t, s)) != 0 {
			t.Fatalf("%d tokens spent, %d sessions made by trades that failed", n, len(sessionKeys(t, s)))
		}
		refresh(t, s, old.RefreshToken, "request")
		kept := map[string]string{}
		for _, key := range s.Redis.Keys(t.Context(), "refresh_token:*").Val() {
			kept[key] = s.Redis.Get(t.Context(), key).Val()
		}
		s.Redis.FlushAll(t.Context())
		for range 2 { // without its key, and with the key from a backup
			for _, requestID := range []string{"", "request"} {
				_, err = tryRefresh(t.Context(), s, old.RefreshToken, requestID)
				wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
			}
			for key, value := range kept {
				s.Redis.Set(t.Context(), key, value, 0)
			}
		}
		execSQL(t, s, "DELETE FROM legacy_spent")
	}
	// A token that Redis lost before it was traded is lost.
	s.Redis.FlushAll(t.Context())
	_, err := tryRefresh(t.Context(), s, backend.Sessions[0].RefreshToken, "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
}

// An old token is older than every row of the ledger about its account.
func TestLegacyTradeOfEndedAccounts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"disabled": "UPDATE users SET is_active = false WHERE id = $1",
		"password": "UPDATE users SET password_hash = 'another' WHERE id = $1",
		"deleted":  "DELETE FROM users WHERE id = $1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend, s, replica := takeover(t)
			for by, old := range oneOfEach(t, backend) {
				// During a trade: the change commits when the trade has checked everything except the account.
				commit := holdAccount(t, s, change, old.UserID)
				answer := make(chan error, 1)
				go func() {
					_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
					answer <- err
				}()
				commit()
				wantRefused(t, <-answer, codes.Unauthenticated, "SESSION_ENDED")
				// Before a trade, and for good: an account that is active again has no old sessions.
				execSQL(t, s, "UPDATE users SET is_active = true WHERE id = $1", old.UserID)
				for _, at := range []*testenv.Server{s, replica} {
					_, err := tryRefresh(t.Context(), at, old.RefreshToken, "request")
					wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
				}
				if n := count(t, s, "SELECT count(*) FROM legacy_spent"); n != 0 || len(sessionKeys(t, s)) != 0 {
					t.Errorf("%s: %d tokens spent, sessions %v", by, n, sessionKeys(t, s))
				}
			}
		})
	}
}

// The repeated answer is good only as long as the session.
func TestLegacyRepeatOfEndedAccounts(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	for i, change := range []string{
		"UPDATE users SET is_active = false WHERE id = $1",
		"UPDATE users SET password_hash = 'another' WHERE id = $1",
		"DELETE FROM users WHERE id = $1",
	} {
		old := backend.Sessions[i]
		refresh(t, s, old.RefreshToken, "request")
		execSQL(t, s, change, old.UserID)
		_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
		wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	}
	// An attacker who can write to Redis cannot raise the traded session above a revocation.
	old := backend.Sessions[3]
	traded := refresh(t, s, old.RefreshToken, "request")
	execSQL(t, s, "UPDATE users SET password_hash = 'another' WHERE id = $1", old.UserID)
	s.Redis.HSet(t.Context(), "latchkey:session:{"+traded.GetSessionId()+"}", "ledger", "9000000000000000")
	_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
}

// It ends with the date until which old tokens are accepted, and with the traded session.
func TestLegacyTradeEnds(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, LegacyUntil: time.Hour})
	refresh(t, s, backend.Sessions[0].RefreshToken, "request")
	s.Clock.Advance(time.Hour - time.Millisecond)
	refresh(t, s, backend.Sessions[0].RefreshToken, "request")
	traded := refresh(t, s, backend.Sessions[1].RefreshToken, "")
	s.Clock.Advance(time.Millisecond)
	for _, old := range backend.Sessions {
		_, err := tryRefresh(t.Context(), s, old.RefreshToken, "request")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
		wantRefused(t, tryLogout(t.Context(), s, old.RefreshToken), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	wantRefused(t, tryReset(t.Context(), s, backend.ResetTokens[0].Token, newPassword), codes.InvalidArgument, "RESET_TOKEN_INVALID", "token")
	refresh(t, s, traded.GetRefreshToken(), "") // it is a session like others
}

// A trade ends the oldest session over the limit, as a login does.
func TestLegacyTradeAndSessionLimit(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, SessionLimit: 1})
	old := backend.Sessions[0]
	login := legacyLogin(t, s, backend.User(t, old.Email))
	traded := refresh(t, s, old.RefreshToken, "")
	wantValid(t, s, login.GetAccessToken(), ended)
	wantLive(t, s, traded)
}

// If the caller is gone, the trade spends nothing that the caller cannot get again with its request id.
func TestLegacyTradeHangsUp(t *testing.T) {
	t.Parallel()
	backend, s, _ := takeover(t)
	for _, old := range backend.Sessions {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = tryRefresh(ctx, s, old.RefreshToken, "request")
		}()
		time.AfterFunc(3*time.Millisecond, cancel)
		<-done
		cancel()
		wantLive(t, s, refresh(t, s, old.RefreshToken, "request"))
	}
}
