package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// goBackend is a stand-in for the Go backend: its tokens and its rules for them, on the database that both share.
type goBackend struct {
	key *rsa.PrivateKey
	on  *testenv.Server
}

// goClaims are the claims that it reads and writes.
type goClaims struct {
	UserID string `json:"user_id"`
	Email  string `json:"email"`
	jwt.RegisteredClaims
}

// issue makes an access token, or with an empty address a refresh token.
func (b goBackend) issue(t *testing.T, userID, address string) string {
	t.Helper()
	now := b.on.Clock.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, goClaims{userID, address, jwt.RegisteredClaims{
		Issuer: "saas-platform", Subject: userID, ID: uuid.NewString(),
		ExpiresAt: jwt.NewNumericDate(now.Add(15 * time.Minute)), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now),
	}}).SignedString(b.key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// validate is its ValidateToken, with a clock that may be wrong: only RS256, only its issuer, no leeway, and an active
// account.
func (b goBackend) validate(t *testing.T, token string, ahead time.Duration) error {
	t.Helper()
	if len(token) > 2000 {
		return errors.New("longer than its limit")
	}
	var said goClaims
	_, err := jwt.ParseWithClaims(token, &said, func(token *jwt.Token) (any, error) {
		if _, ok := token.Method.(*jwt.SigningMethodRSA); !ok {
			return nil, errors.New("unexpected method")
		}
		return &b.key.PublicKey, nil
	}, jwt.WithTimeFunc(func() time.Time { return b.on.Clock.Now().Add(ahead) }), jwt.WithIssuer("saas-platform"))
	if err != nil {
		return err
	}
	if said.Email == "" {
		return errors.New("a refresh token")
	}
	if count(t, b.on, "SELECT count(*) FROM users WHERE id = $1 AND is_active", said.UserID) != 1 {
		return errors.New("no such active user")
	}
	return nil
}

func (b goBackend) wantAccepted(t *testing.T, token string) {
	t.Helper()
	if err := b.validate(t, token, 0); err != nil {
		t.Errorf("the Go backend refuses it: %v", err)
	}
}

// sideBySide starts a server that signs with the Go backend's key until the date, and that backend.
func sideBySide(t *testing.T, until time.Duration) (*testenv.Server, goBackend, *testenv.ExistingBackend) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	backend := testenv.Existing(t)
	s := testenv.Start(t, testenv.Options{Legacy: backend, LegacySigningKey: key, LegacyUntil: until})
	return s, goBackend{key, s}, backend
}

// issuerOf reads "iss".
func issuerOf(t *testing.T, token string) string {
	t.Helper()
	var said struct {
		Issuer string `json:"iss"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &said); err != nil {
		t.Fatal(err)
	}
	return said.Issuer
}

// The Go backend accepts tokens of Latchkey, and Latchkey those of the Go backend. Latchkey checks the sessions of its
// own tokens.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	s, old, backend := sideBySide(t, 0)
	other := testenv.Start(t, testenv.Options{Legacy: backend, LegacyPublicKey: &old.key.PublicKey, Clock: s.Clock, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	user := backend.User(t, "nora0@example.com")
	login, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	first := login.GetTokens()
	for _, replica := range []*testenv.Server{s, other} {
		resp := wantValid(t, replica, first.GetAccessToken(), 0)
		if resp.GetSessionId() != first.GetSessionId() || resp.GetUser().GetId() != user.ID.String() {
			t.Errorf("judged as %v", resp)
		}
	}
	old.wantAccepted(t, first.GetAccessToken())
	// It checks "nbf" without leeway, so tokens must be good on a clock that is a minute behind.
	if err := old.validate(t, first.GetAccessToken(), -time.Minute); err != nil {
		t.Errorf("with a clock that is behind: %v", err)
	}
	if err := old.validate(t, first.GetRefreshToken(), 0); err == nil {
		t.Error("the Go backend takes a refresh token")
	}

	s.Clock.Advance(time.Second)
	const request = "0197c2a4-1111-7abc-8def-0123456789ab"
	next := refresh(t, s, first.GetRefreshToken(), request)
	if again := refresh(t, s, first.GetRefreshToken(), request); again.GetAccessToken() != next.GetAccessToken() {
		t.Error("the repeat of a refresh has another access token")
	}
	old.wantAccepted(t, next.GetAccessToken())
	if _, err := s.SessionService.ListSessions(as(t, next), &latchkeyv1.ListSessionsRequest{}); err != nil {
		t.Errorf("as a session: %v", err)
	}

	theirs := old.issue(t, user.ID.String(), user.Email)
	old.wantAccepted(t, theirs)
	for _, replica := range []*testenv.Server{s, other} {
		if resp := wantValid(t, replica, theirs, 0); resp.GetSessionId() != oldSession(theirs) {
			t.Errorf("a token of the Go backend's: %v", resp)
		}
		wantValid(t, replica, old.issue(t, user.ID.String(), ""), invalid)
	}

	// The Go backend does not know sessions, so it still accepts tokens of ended ones.
	logOut(t, s, next.GetRefreshToken())
	for _, token := range []string{first.GetAccessToken(), next.GetAccessToken()} {
		wantValid(t, s, token, ended)
		wantValid(t, other, token, ended)
		old.wantAccepted(t, token)
	}
	wantValid(t, s, theirs, 0)
	suspend(t, s, user.ID.String())
	wantValid(t, s, theirs, disabled)
	if err := old.validate(t, theirs, 0); err == nil {
		t.Error("the Go backend does not see that the account is suspended")
	}
}

// No token for both lives longer than the date. From one life before the date on, Latchkey issues only its own tokens,
// which are good after the date.
func TestSideBySideEnds(t *testing.T) {
	t.Parallel()
	// The clock stays within the 30 s in which it counts as right.
	s, old, backend := sideBySide(t, testenv.AccessTokenTTL+10*time.Second)
	user := backend.User(t, "nora0@example.com")
	tokens := func() *latchkeyv1.Tokens {
		t.Helper()
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetTokens()
	}
	s.Clock.Advance(10 * time.Second)
	last := tokens()
	s.Clock.Advance(time.Second)
	native := tokens()
	if issuerOf(t, last.GetAccessToken()) != "saas-platform" || issuerOf(t, native.GetAccessToken()) != testenv.Issuer {
		t.Fatalf("issued by %s, then %s", issuerOf(t, last.GetAccessToken()), issuerOf(t, native.GetAccessToken()))
	}
	wantValid(t, s, last.GetAccessToken(), 0)
	wantValid(t, s, native.GetAccessToken(), 0)
	if err := old.validate(t, native.GetAccessToken(), 0); err == nil {
		t.Error("the Go backend accepts a native token")
	}
	theirs := old.issue(t, user.ID.String(), user.Email)
	wantValid(t, s, theirs, 0)
	s.Clock.Advance(testenv.AccessTokenTTL - time.Second)
	wantValid(t, s, last.GetAccessToken(), expired)
	wantValid(t, s, theirs, expired)
	wantValid(t, s, native.GetAccessToken(), 0)
	if issuer := issuerOf(t, refresh(t, s, last.GetRefreshToken(), "").GetAccessToken()); issuer != testenv.Issuer {
		t.Errorf("after the date a refresh is issued by %s", issuer)
	}
}

// A row of the ledger ends everything that was signed with the Go backend's key, for either system, on every replica
// and on new ones.
func TestOlderKeyRevoked(t *testing.T) {
	t.Parallel()
	s, old, backend := sideBySide(t, 0)
	user := backend.User(t, "nora0@example.com")
	login, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	theirs := old.issue(t, user.ID.String(), user.Email)
	byRust := rustToken(t, backend.JWT.Rust.Secret, user.ID, s.Clock.Now(), time.Hour)
	wantValid(t, s, theirs, 0)
	wantValid(t, s, login.GetTokens().GetAccessToken(), 0)
	execSQL(t, s, "SELECT latchkey_append_revocation('key', NULL, NULL, NULL, $1, NULL)", s.Keyring.OlderKeyID())
	settled(t, s)
	execSQL(t, s, "UPDATE revocations SET created_at = created_at - interval '60 days'")
	again := testenv.Start(t, testenv.Options{Legacy: backend, LegacySigningKey: old.key, DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	for _, replica := range []*testenv.Server{s, again} {
		wantValid(t, replica, theirs, invalid)
		wantValid(t, replica, login.GetTokens().GetAccessToken(), invalid)
		wantValid(t, replica, byRust, 0)
	}
}

// Tokens for both are checked from memory too.
func TestSideBySideCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t), LegacySigningKey: key, WallClock: true, Lease: ledger.MaxLease})
	tokens := account(t, s)
	wantValid(t, s, tokens.GetAccessToken(), 0)
	postgres, redis := s.Calls.Postgres(), s.Calls.Redis()
	for range 100 {
		wantValid(t, s, tokens.GetAccessToken(), 0)
	}
	if p, r := s.Calls.Postgres()-postgres, s.Calls.Redis()-redis; p != 0 || r != 0 {
		t.Errorf("100 validations made %d statements and %d Redis commands", p, r)
	}
}
