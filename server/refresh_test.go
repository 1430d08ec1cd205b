package server_test

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	seen := map[string]bool{tokens.GetRefreshToken(): true, tokens.GetAccessToken(): true}
	for range 5 {
		s.Clock.Advance(time.Hour)
		next := refresh(t, s, tokens.GetRefreshToken(), "")
		if next.GetSessionId() != tokens.GetSessionId() || seen[next.GetRefreshToken()] || seen[next.GetAccessToken()] {
			t.Fatalf("got %v after %v", next, tokens)
		}
		if got := next.GetRefreshExpireTime().AsTime(); !got.Equal(s.Clock.Now().Add(testenv.IdleTTL)) {
			t.Errorf("refresh token until %v", got)
		}
		seen[next.GetRefreshToken()], seen[next.GetAccessToken()] = true, true
		wantValid(t, s, next.GetAccessToken(), 0)
		tokens = next
	}
	// Two refreshes in one second give two tokens, each with an id of its own.
	if next := refresh(t, s, tokens.GetRefreshToken(), ""); next.GetAccessToken() == tokens.GetAccessToken() {
		t.Error("the same access token in the same second")
	}
}

// The answer was lost, and the client asks again.
func TestRetryOfARefresh(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	const requestID = "7d4f6a2e-6a3c-4f0e-9a53-2f4b3d6f1c11"
	first := refresh(t, s, tokens.GetRefreshToken(), requestID)
	s.Clock.Advance(testenv.Grace)
	again := refresh(t, s, tokens.GetRefreshToken(), requestID)
	if !proto.Equal(first, again) {
		t.Errorf("within the grace: %v, then %v", first, again)
	}
	// Any time later, with an access token that is good then.
	s.Clock.Advance(100 * time.Hour)
	late := refresh(t, s, tokens.GetRefreshToken(), requestID)
	if late.GetRefreshToken() != first.GetRefreshToken() {
		t.Error("a late retry got another refresh token")
	}
	wantValid(t, s, late.GetAccessToken(), 0)
	// The successor was used, so this is not a retry.
	refresh(t, s, first.GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), requestID)
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
}

func TestRepeatWithinTheGrace(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	first := refresh(t, s, tokens.GetRefreshToken(), "one")
	for _, requestID := range []string{"", "two"} {
		s.Clock.Advance(testenv.Grace / 2)
		if again := refresh(t, s, tokens.GetRefreshToken(), requestID); !proto.Equal(first, again) {
			t.Errorf("got %v, want %v", again, first)
		}
	}
	if n := count(t, s, "SELECT sum(times) FROM audit_events WHERE kind = 'refresh_repeated' AND session_id = $1", tokens.GetSessionId()); n != 2 {
		t.Errorf("%d audit events, want 2", n)
	}
	s.Clock.Advance(time.Millisecond)
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
}

// The thief and the owner both lose the session. The owner's other sessions stay.
func TestReuseEndsOneSession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stolen := account(t, s)
	other := logIn(t, s, email)
	owner := refresh(t, s, refresh(t, s, stolen.GetRefreshToken(), "").GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	_, err := tryRefresh(t.Context(), s, stolen.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	_, err = tryRefresh(t.Context(), s, owner.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	wantValid(t, s, owner.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
	wantValid(t, s, other.GetAccessToken(), 0)
	refresh(t, s, other.GetRefreshToken(), "")
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'refresh_reused' AND session_id = $1", stolen.GetSessionId()); n != 1 {
		t.Errorf("%d audit events", n)
	}
}

// A duplicate that was slower than the refresh after it is refused and ends nothing.
func TestOvertakenRefresh(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	last := refresh(t, s, refresh(t, s, tokens.GetRefreshToken(), "").GetRefreshToken(), "")
	s.Clock.Advance(testenv.Grace)
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	refresh(t, s, last.GetRefreshToken(), "")
}

func TestRefreshRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	another := logIn(t, s, email)
	good := tokens.GetRefreshToken()
	for name, test := range map[string]struct {
		token, requestID, reason string
		fields                   []string
	}{
		"nothing":         {"", "", "VALIDATION_FAILED", []string{"refresh_token"}},
		"15 KiB":          {strings.Repeat("x", 15<<10), "", "VALIDATION_FAILED", []string{"refresh_token"}},
		"long request id": {good, strings.Repeat("r", 65), "VALIDATION_FAILED", []string{"request_id"}},
		"NUL request id":  {good, "a\x00b", "VALIDATION_FAILED", []string{"request_id"}},
		"garbage":         {"garbage", "", "REFRESH_TOKEN_INVALID", nil},
		"access token":    {tokens.GetAccessToken(), "", "REFRESH_TOKEN_INVALID", nil},
		"NUL":             {good + "\x00", "", "REFRESH_TOKEN_INVALID", nil},
		"padded":          {good + "=", "", "REFRESH_TOKEN_INVALID", nil},
		"with a newline":  {good + "\n", "", "REFRESH_TOKEN_INVALID", nil},
		// The head of one session's token, the MAC of another's.
		"of two sessions": {good[:len(good)-43] + another.GetRefreshToken()[len(good)-43:], "", "REFRESH_TOKEN_INVALID", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := codes.Unauthenticated
			if test.reason == "VALIDATION_FAILED" {
				code = codes.InvalidArgument
			}
			_, err := tryRefresh(t.Context(), s, test.token, test.requestID)
			wantRefused(t, err, code, test.reason, test.fields...)
		})
	}
	for i := 1; i < len(good); i++ {
		_, err := tryRefresh(t.Context(), s, good[:i], "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	// Forgeries end nothing: the sessions stay.
	for i := range good {
		_, err := tryRefresh(t.Context(), s, flip(good, i), "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	refresh(t, s, good, "")
	refresh(t, s, another.GetRefreshToken(), "")
}

func TestRefreshOfAnAccountThatIsGone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"disabled": "UPDATE users SET is_active = false",
		"deleted":  "DELETE FROM users",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			tokens := account(t, s)
			execSQL(t, s, change)
			_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
			if keys := sessionKeys(t, s); len(keys) != 0 {
				t.Errorf("left in Redis: %v", keys)
			}
		})
	}
}

func TestSessionRunsOut(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	idle, busy := account(t, s), logIn(t, s, email)
	start := s.Clock.Now()
	for s.Clock.Now().Sub(start) < testenv.MaxTTL-testenv.IdleTTL/2 {
		s.Clock.Advance(testenv.IdleTTL / 2)
		busy = refresh(t, s, busy.GetRefreshToken(), "")
	}
	if got := busy.GetRefreshExpireTime().AsTime(); !got.Equal(start.Add(testenv.MaxTTL)) {
		t.Errorf("the last refresh token lives until %v", got)
	}
	_, err := tryRefresh(t.Context(), s, idle.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	// The access token ends with the session, not after it.
	s.Clock.Set(start.Add(testenv.MaxTTL - time.Minute))
	busy = refresh(t, s, busy.GetRefreshToken(), "")
	if got := busy.GetAccessExpireTime().AsTime(); !got.Equal(start.Add(testenv.MaxTTL)) {
		t.Errorf("the last access token lives until %v", got)
	}
	s.Clock.Set(start.Add(testenv.MaxTTL))
	_, err = tryRefresh(t.Context(), s, busy.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	wantValid(t, s, busy.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
}

// Tokens expire at whole seconds, so in the last second there is nothing left to give.
func TestLastSecondOfASession(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	s.Clock.Advance(time.Second / 2)
	tokens := account(t, s)
	start := s.Clock.Now()
	for s.Clock.Now().Sub(start) < testenv.MaxTTL-testenv.IdleTTL {
		s.Clock.Advance(testenv.IdleTTL / 2)
		tokens = refresh(t, s, tokens.GetRefreshToken(), "")
	}
	s.Clock.Set(start.Add(testenv.MaxTTL - time.Millisecond))
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
}

// 64 holders of one token get one successor, and no second branch.
func TestRefreshesAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	tokens := account(t, s)
	for round := range 3 {
		const callers = 64
		answers, errs := make([]*latchkeyv1.Tokens, callers), make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				to := s
				if i%2 == 1 {
					to = replica
				}
				answers[i], errs[i] = tryRefresh(t.Context(), to, tokens.GetRefreshToken(), "")
			})
		}
		wg.Wait()
		successors := map[string]bool{}
		for i := range callers {
			if errs[i] != nil {
				t.Errorf("round %d: %v", round, errs[i])
				continue
			}
			successors[answers[i].String()] = true
		}
		if len(successors) != 1 {
			t.Fatalf("round %d: %d different answers: %v", round, len(successors), maps.Keys(successors))
		}
		tokens = answers[0]
		s.Clock.Advance(time.Minute)
	}
	// The one line that is left can be refreshed.
	wantValid(t, s, refresh(t, s, tokens.GetRefreshToken(), "").GetAccessToken(), 0)
}

// Redis is restored from an older copy of the session. The client is ahead of it and can still refresh.
func TestRedisRolledBack(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first := account(t, s)
	key := "latchkey:session:{" + first.GetSessionId() + "}"
	snapshot, err := s.Redis.HGetAll(t.Context(), key).Result()
	if err != nil || len(snapshot) == 0 {
		t.Fatalf("%s holds %v: %v", key, snapshot, err)
	}
	second := refresh(t, s, first.GetRefreshToken(), "")
	third := refresh(t, s, second.GetRefreshToken(), "")
	if err := s.Redis.HSet(t.Context(), key, snapshot).Err(); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(time.Minute)
	fourth := refresh(t, s, third.GetRefreshToken(), "")
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'refresh_caught_up'"); n != 1 {
		t.Errorf("%d audit events", n)
	}
	// A token that was spent before the loss is still spent.
	s.Clock.Advance(time.Minute)
	_, err = tryRefresh(t.Context(), s, second.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	wantValid(t, s, fourth.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// A session that was logged out returns with an old copy of Redis and is still ended.
func TestRedisRestoredRevivesNobody(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	key := "latchkey:session:{" + tokens.GetSessionId() + "}"
	snapshot, err := s.Redis.HGetAll(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	logOut(t, s, tokens.GetRefreshToken())
	if err := s.Redis.HSet(t.Context(), key, snapshot).Err(); err != nil {
		t.Fatal(err)
	}
	_, err = tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// Tokens that were made under the previous key are accepted, those of a key that was removed are not.
func TestChangeOfSecret(t *testing.T) {
	t.Parallel()
	old := testenv.Start(t, testenv.Options{Secret: "old"})
	tokens := account(t, old)
	stores := testenv.Options{DatabaseURL: old.DatabaseURL, RedisURL: old.RedisURL, Clock: old.Clock, Secret: "new", Previous: "old"}
	changed := testenv.Start(t, stores)
	wantValid(t, changed, tokens.GetAccessToken(), 0)
	next := refresh(t, changed, tokens.GetRefreshToken(), "")
	stores.Previous = ""
	after := testenv.Start(t, stores)
	wantValid(t, after, next.GetAccessToken(), 0)
	_, err := tryRefresh(t.Context(), after, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	refresh(t, after, next.GetRefreshToken(), "")
}

// Revoked sessions stay revoked. Sessions in the snapshot can be refreshed, also if their clients are ahead of it.
// Spent tokens stay spent. If PostgreSQL has no mark of a spent token, it is noticed when there are two lines.
func TestRedisRestoredFromASnapshot(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	quiet, gone, ahead := logIn(t, s, email), logIn(t, s, email), logIn(t, s, email)
	marked := logIn(t, s, email)
	restore := copyRedis(t, s)
	known := marked.GetRefreshToken()
	marked = refresh(t, s, refresh(t, s, known, "").GetRefreshToken(), "")
	stolen := ahead.GetRefreshToken() // a copy that somebody else has
	ahead = refresh(t, s, refresh(t, s, ahead.GetRefreshToken(), "").GetRefreshToken(), "")
	logOut(t, s, gone.GetRefreshToken())
	late := logIn(t, s, email)
	s.Clock.Advance(time.Minute)

	if err := s.Redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	restore()
	_, err := tryRefresh(t.Context(), s, gone.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	wantValid(t, s, gone.GetAccessToken(), ended)
	refresh(t, s, quiet.GetRefreshToken(), "")
	_, err = tryRefresh(t.Context(), s, late.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	wantValid(t, s, late.GetAccessToken(), 0) // lost, not revoked

	_, err = tryRefresh(t.Context(), s, known, "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	wantValid(t, s, marked.GetAccessToken(), ended)

	execSQL(t, s, "DELETE FROM session_marks") // as if it had been restored within the hour
	thief := refresh(t, s, stolen, "")
	ahead = refresh(t, s, ahead.GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	_, err = tryRefresh(t.Context(), s, thief.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_REUSED")
	wantValid(t, s, thief.GetAccessToken(), ended)
	wantValid(t, s, ahead.GetAccessToken(), ended)
}
