package server_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// A refresh asks each store once. A short token, of an earlier release or of a server that makes only short ones, asks
// Redis twice.
func TestTripsOfARefresh(t *testing.T) {
	t.Parallel()
	long := testenv.Start(t, testenv.Options{})
	short := testenv.Start(t, testenv.Options{
		DatabaseURL: long.DatabaseURL, RedisURL: long.RedisURL, Clock: long.Clock, ShortRefreshTokens: true,
	})
	signUp(t, long, email)
	for _, of := range []struct {
		server *testenv.Server
		redis  int64
	}{{long, 1}, {short, 2}} {
		tokens := logIn(t, of.server, email)
		for range 8 { // each of the first refreshes writes a mark
			tokens = refresh(t, of.server, tokens.GetRefreshToken(), "")
		}
		settled(t, of.server)
		for range 5 {
			postgres, redis := of.server.Calls.Of("RefreshToken")
			tokens = refresh(t, of.server, tokens.GetRefreshToken(), "a-request")
			if p, r := of.server.Calls.Of("RefreshToken"); p-postgres != 1 || r-redis != of.redis {
				t.Errorf("PostgreSQL was asked %d times and Redis %d times, want 1 and %d", p-postgres, r-redis, of.redis)
			}
		}
	}
	// A short token becomes a long one when it is traded, and the repeat at the other server has the same answer.
	tokens := logIn(t, short, email)
	next := refresh(t, long, tokens.GetRefreshToken(), "r")
	if again := refresh(t, short, tokens.GetRefreshToken(), "r"); again.GetRefreshToken() != next.GetRefreshToken() || again.GetAccessToken() != next.GetAccessToken() {
		t.Errorf("%v, then %v", next, again)
	}
	if len(tokens.GetRefreshToken()) != 86 || len(next.GetRefreshToken()) != 155 {
		t.Errorf("%d and %d characters", len(tokens.GetRefreshToken()), len(next.GetRefreshToken()))
	}
	refresh(t, short, next.GetRefreshToken(), "")
}

// A garbled token of the long form costs no store anything.
func TestForgedRefreshTokenAsksNoStore(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	token := account(t, s).GetRefreshToken()
	settled(t, s)
	for _, at := range []int{10, 40, 70, 90, 120, 150} {
		_, err := tryRefresh(t.Context(), s, flip(token, at), "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	if postgres, redis := s.Calls.Of("RefreshToken"); postgres != 0 || redis != 0 {
		t.Errorf("PostgreSQL was asked %d times, Redis %d times", postgres, redis)
	}
}

// PostgreSQL fails for longer than the grace. No token was spent meanwhile: clients without a request id go on.
func TestRefreshAfterAnOutageOfPostgres(t *testing.T) {
	t.Parallel()
	for name, short := range map[string]bool{"long": false, "short": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := testenv.NewProxy(t, testenv.Migrated(t))
			s := testenv.Start(t, testenv.Options{DatabaseURL: database.URL(), ShortRefreshTokens: short})
			tokens := account(t, s)
			database.Cut()
			for range 2 {
				_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
				wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
				s.Clock.Advance(testenv.Grace + time.Second)
			}
			database.Restore()
			testenv.Eventually(t, patience, "PostgreSQL answers again", func() bool {
				_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
				return err == nil
			})
			refresh(t, s, tokens.GetRefreshToken(), "")
		})
	}
}

// While a replica runs that reads only short tokens, nobody gets a long one.
func TestShortTokensWhileAnEarlierReleaseRuns(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	earlier := uuid.New()
	execSQL(t, s, "INSERT INTO replicas (id, applied_seq, lease_ms) VALUES ($1, 0, 2000)", earlier)
	testenv.Eventually(t, patience, "the server has seen the replica", func() bool { return !s.Ledger.ReadLong() })
	tokens := logIn(t, s, email)
	next := refresh(t, s, tokens.GetRefreshToken(), "r")
	if len(tokens.GetRefreshToken()) != 86 || len(next.GetRefreshToken()) != 86 {
		t.Errorf("%d and %d characters", len(tokens.GetRefreshToken()), len(next.GetRefreshToken()))
	}
	execSQL(t, s, "DELETE FROM replicas WHERE id = $1", earlier)
	testenv.Eventually(t, patience, "the server has seen it leave", s.Ledger.ReadLong)
	if again := refresh(t, s, tokens.GetRefreshToken(), "r"); again.GetRefreshToken() != next.GetRefreshToken() {
		t.Error("the repeat has another token")
	}
	if after := refresh(t, s, next.GetRefreshToken(), ""); len(after.GetRefreshToken()) != 155 {
		t.Errorf("%d characters", len(after.GetRefreshToken()))
	}
}

// testMACKeys are the keys of refresh tokens of a server with the usual secret key.
func testMACKeys(t *testing.T) refreshtoken.Keys {
	t.Helper()
	secret := sha256.Sum256([]byte("a test's secret key "))
	derived, err := hkdf.Key(sha256.New, secret[:], nil, "latchkey refresh token mac", 32)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := refreshtoken.NewKeys([][]byte{derived})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// The secret key has leaked, and with it a spent token of the victim. Without the session's salt, which is in Redis
// alone, it is not enough for a token, and it ends no session either: not as a reuse, and not by naming an ended login or
// a disabled account.
func TestAttackLeakedSecretKey(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	account(t, s)
	mallory := signUp(t, s, "mallory@example.com")
	mallorys := logIn(t, s, "mallory@example.com")
	if err := tryLogoutAll(t.Context(), s, logIn(t, s, email).GetRefreshToken()); err != nil {
		t.Fatal(err) // positions below this row are ended
	}
	spent := logIn(t, s, email)
	tokens := refresh(t, s, spent.GetRefreshToken(), "")
	tokens = refresh(t, s, tokens.GetRefreshToken(), "")
	s.Clock.Advance(time.Minute)
	if _, err := s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: mallory.GetId()}); err != nil {
		t.Fatal(err)
	}
	known, err := refreshtoken.Parse(spent.GetRefreshToken())
	if err != nil {
		t.Fatal(err)
	}
	own, err := refreshtoken.Parse(mallorys.GetRefreshToken())
	if err != nil {
		t.Fatal(err)
	}
	key := testMACKeys(t).Current()
	if key.LongMAC(known) != known.MAC {
		t.Fatal("this is not the server's key: the test shows nothing")
	}
	session := "latchkey:session:{" + spent.GetSessionId() + "}"
	before := s.Redis.HGetAll(t.Context(), session).Val()
	rows := count(t, s, "SELECT count(*) FROM revocations")
	for name, change := range map[string]func(*refreshtoken.Token){
		"the live generation":                func(f *refreshtoken.Token) { f.Generation = 3 },
		"a generation ahead":                 func(f *refreshtoken.Token) { f.Generation = 30 },
		"a spent generation":                 func(f *refreshtoken.Token) { f.Generation = 2 },
		"the salt of another session":        func(f *refreshtoken.Token) { f.Generation = 3; f.Carried.Proof = own.Carried.Proof },
		"no proof":                           func(f *refreshtoken.Token) { f.Generation = 3; f.Carried.Proof = [refreshtoken.ProofSize]byte{} },
		"an ended login":                     func(f *refreshtoken.Token) { f.Generation, f.Carried.Position = 3, 1 },
		"a disabled account":                 func(f *refreshtoken.Token) { f.Generation, f.Carried.UserID = 3, own.Carried.UserID },
		"an account that is not":             func(f *refreshtoken.Token) { f.Generation, f.Carried.UserID = 3, uuid.New() },
		"a session that is not":              func(f *refreshtoken.Token) { f.SessionID = uuid.New() },
		"a later position":                   func(f *refreshtoken.Token) { f.Carried.Position += 1 << 50 },
		"a later end":                        func(f *refreshtoken.Token) { f.Carried.End += 1 << 30 },
		"the disabled account's own session": func(f *refreshtoken.Token) { f.SessionID, f.Generation = own.SessionID, 2 },
	} {
		forged, carried := known, *known.Carried
		forged.Carried = &carried
		change(&forged)
		forged.MAC = key.LongMAC(forged)
		_, err := tryRefresh(t.Context(), s, forged.Encode(), "")
		t.Log(name)
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
		err = tryLogoutAll(t.Context(), s, forged.Encode())
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	after := s.Redis.HGetAll(t.Context(), session).Val()
	if len(after) == 0 || len(after) != len(before) {
		t.Fatalf("the session is %v, was %v", after, before)
	}
	for field, value := range before {
		if after[field] != value {
			t.Errorf("%s is %q, was %q", field, after[field], value)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != rows {
		t.Errorf("%d rows of the ledger, were %d", n, rows)
	}
	wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	refresh(t, s, tokens.GetRefreshToken(), "")
}
