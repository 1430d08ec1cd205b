package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// Only the tokens that a backend has stored are traded.
func TestLegacyTradeRefusals(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	known := backend.PublicKey
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	backend.PublicKey = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	backend.PublicKey = known
	genuine := replicaOf(t, s, backend)
	user, other := backend.User(t, "nora0@example.com").ID.String(), backend.User(t, "nora1@example.com").ID.String()
	goToken := func(jti, email string) string {
		now := s.Clock.Now()
		text, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"user_id": user, "email": email, "iss": "saas-platform", "sub": user, "jti": jti,
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(168 * time.Hour).Unix(),
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	rustToken := func(life time.Duration) string {
		now := s.Clock.Now()
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": user, "iat": now.Unix(), "exp": now.Add(life).Unix(),
		}).SignedString([]byte(backend.JWT.Rust.Secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	set := func(name, value string) {
		t.Helper()
		if err := s.Redis.Set(t.Context(), "refresh_token:"+name, value, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("kept", user)
	set("of another", other)
	set("nearly", user+" ")
	kept, newer := goToken("kept", ""), rustToken(169*time.Hour)
	set(user, newer)
	for name, bad := range map[string]string{
		"unknown jti":             goToken("unknown", ""),
		"jti of another":          goToken("of another", ""),
		"nearly the id":           goToken("nearly", ""),
		"access token, kept":      goToken("kept", "nora0@example.com"),
		"key of the other layout": goToken(user, ""),
		"older of two":            rustToken(168 * time.Hour),
		"access token":            rustToken(time.Hour),
		"spelled otherwise":       newer + "\n",
		"line break inside":       newer[:20] + "\r\n" + newer[20:],
		"padded":                  newer + "=",
		"kept, spelled otherwise": kept[:len(kept)-5] + "\n" + kept[len(kept)-5:],
		"forged":                  flip(newer, len(newer)-10),
		"two dots":                "..",
		"not JSON":                "YQ.YQ.YQ",
		"long":                    strings.Repeat("a", 2000) + "." + strings.Repeat("b", 2000) + ".c",
	} {
		t.Log(name)
		_, err := tryRefresh(t.Context(), s, bad, "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
		wantRefused(t, tryLogout(t.Context(), s, bad), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	for _, old := range backend.Sessions {
		_, err := tryRefresh(t.Context(), genuine, old.AccessToken, "")
		wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent"); n != 0 {
		t.Errorf("%d tokens spent", n)
	}
	for _, good := range []string{kept, newer} {
		refresh(t, s, good, "")
	}
	// Without a takeover a JWT is not a refresh token.
	plain := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	_, err = tryRefresh(t.Context(), plain, backend.Sessions[0].RefreshToken, "")
	wantRefused(t, err, codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
	wantRefused(t, tryLogout(t.Context(), plain, backend.Sessions[0].RefreshToken), codes.Unauthenticated, "REFRESH_TOKEN_INVALID")
}

// A token of the Go backend is not traded any more after a row of the ledger has ended its key.
func TestLegacyTradeOfARevokedKey(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend})
	byGo, byRust := oldTokens(t, backend)
	execSQL(t, s, "SELECT latchkey_append_revocation('key', NULL, NULL, NULL, $1, NULL)", s.Keyring.OlderKeyID())
	_, err := tryRefresh(t.Context(), s, byGo.RefreshToken, "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
	refresh(t, s, byRust.RefreshToken, "")
}
