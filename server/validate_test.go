package server_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	invalid  = latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID
	expired  = latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED
	ended    = latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED
	disabled = latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED
	notFound = latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND
)

// TestAccessTokenForm checks the token against RFC 9068 and the contract.
func TestAccessTokenForm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []accesstoken.Algorithm{"EdDSA", "ES256", "RS256"} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{Algorithm: algorithm})
			user := signUp(t, s, email)
			tokens := logIn(t, s, email)
			parts := strings.Split(tokens.GetAccessToken(), ".")
			var header, claims map[string]any
			for i, into := range []*map[string]any{&header, &claims} {
				raw, err := base64.RawURLEncoding.DecodeString(parts[i])
				if err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(raw, into); err != nil {
					t.Fatal(err)
				}
			}
			if header["typ"] != "at+jwt" || header["alg"] != string(algorithm) || header["kid"] == "" || len(header) != 3 {
				t.Errorf("header %v", header)
			}
			now := float64(s.Clock.Now().Unix())
			for name, want := range map[string]any{
				"iss": testenv.Issuer, "aud": testenv.Audience, "sub": user.GetId(), "client_id": "latchkey", "sid": tokens.GetSessionId(),
				"iat": now, "exp": now + testenv.AccessTokenTTL.Seconds(), "auth_time": now, "led": 0.0,
			} {
				if claims[name] != want {
					t.Errorf("%s is %v, want %v", name, claims[name], want)
				}
			}
			if amr, ok := claims["amr"].([]any); !ok || len(amr) != 1 || amr[0] != "pwd" {
				t.Errorf("amr is %v", claims["amr"])
			}
			if id, ok := claims["jti"].(string); !ok || len(id) < 16 {
				t.Errorf("jti is %v", claims["jti"])
			}
			wantValid(t, s, tokens.GetAccessToken(), 0)
			checkJWKS(t, s, header["kid"])
		})
	}
}

// Tokens have the configured type. Those of the other type, issued before the setting changed, are good on every
// replica.
func TestTokenType(t *testing.T) {
	t.Parallel()
	byRFC := testenv.Start(t, testenv.Options{})
	plain := testenv.Start(t, testenv.Options{DatabaseURL: byRFC.DatabaseURL, RedisURL: byRFC.RedisURL, Clock: byRFC.Clock, TokenType: "JWT"})
	signUp(t, byRFC, email)
	for want, s := range map[string]*testenv.Server{"at+jwt": byRFC, "JWT": plain} {
		access := logIn(t, s, email).GetAccessToken()
		header := map[string]any{}
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[0])
		if err != nil || json.Unmarshal(text, &header) != nil || header["typ"] != want {
			t.Errorf("%s: header %s, %v", want, text, err)
		}
		wantValid(t, byRFC, access, 0)
		wantValid(t, plain, access, 0)
	}
}

func checkJWKS(t *testing.T, s *testenv.Server, kid any) {
	t.Helper()
	_, header, body := fetch(t, s.HTTP+"/.well-known/jwks.json")
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 || set.Keys[0]["kid"] != kid || set.Keys[0]["use"] != "sig" || set.Keys[0]["d"] != "" {
		t.Errorf("JWKS %s", body)
	}
	for name, want := range map[string]string{
		"Cache-Control": "public, max-age=300", "Content-Type": "application/jwk-set+json", "Access-Control-Allow-Origin": "*",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestValidateTellsWhy(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	access := tokens.GetAccessToken()
	wantValid(t, s, access, 0)
	s.Clock.Advance(testenv.AccessTokenTTL - time.Millisecond)
	wantValid(t, s, access, 0)
	execSQL(t, s, "UPDATE users SET is_active = false")
	settled(t, s)
	wantValid(t, s, access, disabled)
	// The sessions that the suspension ended stay ended.
	execSQL(t, s, "UPDATE users SET is_active = true")
	wantValid(t, s, access, ended)
	// The order of the reasons: a missing account before an ended session, expired before all.
	execSQL(t, s, "UPDATE users SET is_active = false")
	wantValid(t, s, access, disabled)
	execSQL(t, s, "DELETE FROM users")
	wantValid(t, s, access, notFound)
	s.Clock.Advance(time.Millisecond)
	wantValid(t, s, access, expired)
}

func TestValidateForgeries(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stranger := testenv.Start(t, testenv.Options{Clock: s.Clock}) // the same names, other keys
	tokens := account(t, s)
	access := tokens.GetAccessToken()
	parts := strings.Split(access, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	hmacToken := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": testenv.Issuer, "aud": testenv.Audience, "sub": uuid.NewString()})
	hmacToken.Header["typ"] = "at+jwt"
	signedByHMAC, err := hmacToken.SignedString([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"refresh token":      tokens.GetRefreshToken(),
		"session id":         tokens.GetSessionId(),
		"garbage":            "garbage",
		"dots":               "..",
		"four parts":         access + ".x",
		"no signature":       parts[0] + "." + parts[1] + ".",
		"alg none":           unsigned + "." + parts[1] + ".",
		"HS256":              signedByHMAC,
		"another service's":  account(t, stranger).GetAccessToken(),
		"of 4,096 bytes":     strings.Repeat("a", 4096),
		"NUL":                access + "\x00",
		"with a newline":     access + "\n",
		"with the scheme":    "Bearer " + access,
		"header and claims":  parts[0] + "." + parts[1],
		"two of them":        access + access,
		"swapped parts":      parts[1] + "." + parts[0] + "." + parts[2],
		"upper case":         strings.ToUpper(access),
		"standard alphabet":  strings.NewReplacer("-", "+", "_", "/").Replace(access) + "=",
		"claims of a friend": parts[0] + "." + strings.Split(logIn(t, s, email).GetAccessToken(), ".")[1] + "." + parts[2],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantValid(t, s, bad, invalid)
		})
	}
	for i := 1; i < len(access); i++ {
		wantValid(t, s, access[:i], invalid)
	}
	for i := range access {
		wantValid(t, s, flip(access, i), invalid)
	}
}

func TestValidateRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for name, bad := range map[string]string{"empty": "", "over 4,096 bytes": strings.Repeat("a", 4097), "15 KiB": strings.Repeat("a", 15<<10)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: bad})
			wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "access_token")
		})
	}
}

// Replicas that start together on an empty database sign with one key, and a key that is made later is found.
func TestReplicasShareKeys(t *testing.T) {
	t.Parallel()
	database, store := testenv.Migrated(t), testenv.Redis(t)
	clock := testenv.NewClock(time.Now().Truncate(time.Second))
	replicas := make([]*testenv.Server, 3)
	for i := range replicas {
		replicas[i] = testenv.Start(t, testenv.Options{DatabaseURL: database, RedisURL: store, Clock: clock})
	}
	access := account(t, replicas[0]).GetAccessToken()
	for _, replica := range replicas {
		wantValid(t, replica, access, 0)
	}
	newer := testenv.Start(t, testenv.Options{DatabaseURL: database, RedisURL: store, Clock: clock, Algorithm: "EdDSA"})
	wantValid(t, newer, access, 0)
	outcome, err := newer.Rotator.Rotate(t.Context()) // it is there already
	if err != nil || len(outcome.Changes) != 0 {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if _, err := newer.Rotator.Promote(t.Context(), outcome.KeyID); err != nil {
		t.Fatal(err)
	}
	settled(t, newer)
	clock.Advance(2 * time.Second) // longer than the pause between two reads of the store
	access = logIn(t, newer, email).GetAccessToken()
	for _, replica := range replicas {
		wantValid(t, replica, access, 0)
	}
	if n := count(t, newer, "SELECT count(*) FROM signing_keys WHERE state = 'active'"); n != 1 {
		t.Errorf("%d active keys", n)
	}
}

// A row of the ledger ends what it names and nothing else. Sessions that start after it are not affected.
func TestRevocationsOfEachKind(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	ada := account(t, s)
	bobID := signUp(t, s, "bob@example.com").GetId()
	bob, bobToo := logIn(t, s, "bob@example.com"), logIn(t, s, "bob@example.com")
	revoke := func(kind string, sessionID, userID, except any) {
		t.Helper()
		execSQL(t, s, "SELECT latchkey_append_revocation($1, $2, $3, $4, NULL, now() + interval '1 hour')", kind, sessionID, userID, except)
		settled(t, s)
	}
	want := func(what string, good, bad []*latchkeyv1.Tokens) {
		t.Helper()
		t.Log(what)
		for _, tokens := range good {
			wantValid(t, s, tokens.GetAccessToken(), 0)
		}
		for _, tokens := range bad {
			wantValid(t, s, tokens.GetAccessToken(), ended)
			_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
			wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
		}
	}
	type list = []*latchkeyv1.Tokens
	revoke("session", ada.GetSessionId(), bobID, nil)
	want("a session that is another account's", list{ada, bob, bobToo}, nil)
	revoke("user", nil, bobID, bob.GetSessionId())
	want("all of bob's but one", list{ada, bob}, list{bobToo})
	revoke("user", nil, bobID, nil)
	want("all of bob's", list{ada}, list{bob})
	bob = logIn(t, s, "bob@example.com")
	revoke("all", nil, nil, ada.GetSessionId())
	want("everybody's but one", list{ada}, list{bob})
	revoke("all", nil, nil, nil)
	want("everybody's", nil, list{ada})
	want("what began later", list{logIn(t, s, email), logIn(t, s, "bob@example.com")}, nil)
}
