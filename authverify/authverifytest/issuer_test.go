package authverifytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/authverify"
	"github.com/latchkey-auth/latchkey/authverify/authverifytest"
)

func want(t *testing.T, v *authverify.Verifier, token string, want error) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// When a method that revokes returns, every Verifier knows the revocation.
func TestIssuer(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	verifiers := []*authverify.Verifier{issuer.Verifier(t), issuer.Verifier(t)}
	claims, other := issuer.Claims(), issuer.Claims()
	second := other
	second.SessionID = uuid.New()
	token, others, seconds := issuer.Issue(claims), issuer.Issue(other), issuer.Issue(second)
	check := func(token string, verdict error) {
		t.Helper()
		for _, v := range verifiers {
			want(t, v, token, verdict)
		}
	}
	for _, token := range []string{token, others, seconds} {
		check(token, nil)
	}
	issuer.RevokeSession(claims.UserID, claims.SessionID)
	check(token, authverify.ErrRevoked)
	check(others, nil)
	issuer.RevokeUser(other.UserID, second.SessionID)
	check(others, authverify.ErrRevoked)
	check(seconds, nil)
	other.Position = 0 // a new login
	check(issuer.Issue(other), nil)
	issuer.RevokeUser(other.UserID, uuid.Nil)
	check(seconds, authverify.ErrRevoked)
	before := issuer.Issue(authverify.Claims{})
	check(before, nil)
	issuer.RevokeAll()
	check(before, authverify.ErrRevoked)
	check(issuer.Issue(authverify.Claims{}), nil)
}

// A deleted user is refused like one whose sessions ended, and the service hears of it.
func TestIssuerDeletesUsers(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	config := issuer.Config()
	heard := make(chan uuid.UUID, 2)
	config.OnUserDeleted = func(user uuid.UUID) { heard <- user }
	v, err := authverify.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	t.Cleanup(issuer.Follow(v))
	claims := issuer.Claims()
	token := issuer.Issue(claims)
	want(t, v, token, nil)
	issuer.RevokeUser(uuid.New(), uuid.Nil)
	issuer.DeleteUser(claims.UserID)
	want(t, v, token, authverify.ErrRevoked)
	if user := <-heard; user != claims.UserID || len(heard) > 0 {
		t.Errorf("heard of %s, and %d more", user, len(heard))
	}
}

func TestIssuerKeys(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	v := issuer.Verifier(t)
	first := issuer.KeyID()
	old := issuer.Issue(authverify.Claims{})
	if issuer.RotateKey() == first || issuer.KeyID() == first {
		t.Error("the key did not change")
	}
	young := issuer.Issue(authverify.Claims{})
	want(t, v, old, nil)
	want(t, v, young, nil)
	issuer.RevokeKey(first)
	want(t, v, old, authverify.ErrInvalid)
	want(t, v, young, nil)
	issuer.RevokeKey(issuer.KeyID())
	want(t, v, young, authverify.ErrInvalid)
	want(t, v, issuer.Issue(authverify.Claims{}), nil)
}

func TestIssuerClock(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	v := issuer.Verifier(t)
	token := issuer.Issue(authverify.Claims{})
	issuer.Advance(14 * time.Minute)
	want(t, v, token, nil)
	issuer.Advance(time.Minute)
	want(t, v, token, authverify.ErrExpired)
}

// Revocations during a disconnection are known after it.
func TestIssuerDisconnect(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	closed := issuer.Verifier(t)
	config := issuer.Config()
	config.FailOpen = true
	open, err := authverify.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.Close)
	t.Cleanup(issuer.Follow(open))
	claims := issuer.Claims()
	token := issuer.Issue(claims)
	issuer.Disconnect()
	issuer.RevokeSession(claims.UserID, claims.SessionID)
	issuer.Advance(11 * time.Second)
	want(t, closed, token, authverify.ErrUnavailable)
	want(t, open, token, nil)
	issuer.Reconnect()
	want(t, closed, token, authverify.ErrRevoked)
	want(t, open, token, authverify.ErrRevoked)
}

// A snapshot with more rows than fit in one response.
func TestIssuerLongSnapshot(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	var tokens []string
	for range 1100 {
		claims := issuer.Claims()
		tokens = append(tokens, issuer.Issue(claims))
		issuer.RevokeSession(claims.UserID, claims.SessionID)
	}
	v := issuer.Verifier(t)
	for _, token := range tokens {
		want(t, v, token, authverify.ErrRevoked)
	}
	want(t, v, issuer.Issue(authverify.Claims{}), nil)
}

// A token without a session passes only if the service asked for such tokens, and is refused when its account is.
func TestIssuerSessionless(t *testing.T) {
	t.Parallel()
	issuer := authverifytest.NewIssuer(t)
	strict := issuer.Verifier(t)
	config := issuer.Config()
	config.Sessionless = true
	open, err := authverify.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.Close)
	t.Cleanup(issuer.Follow(open))
	claims := issuer.Claims()
	token := issuer.IssueSessionless(claims)
	want(t, strict, token, authverify.ErrInvalid)
	got, err := open.Verify(t.Context(), token)
	if err != nil || got.SessionID != uuid.Nil || got.UserID != claims.UserID {
		t.Fatalf("%+v, %v", got, err)
	}
	want(t, open, issuer.Issue(claims), nil)
	issuer.RevokeSession(claims.UserID, claims.SessionID)
	want(t, open, token, nil)
	issuer.RevokeUser(claims.UserID, claims.SessionID)
	want(t, open, token, authverify.ErrRevoked)
}
