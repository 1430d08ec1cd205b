package accesstoken

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

const (
	testIssuer   = "https://auth.example.com"
	testAudience = "latchkey"
	testClientID = "latchkey"
	testMaxTTL   = time.Hour
)

// signer is a key whose private half the test holds, so that it can sign what Latchkey never would.
type signer struct {
	*Key
	id      string
	private crypto.Signer
	jwk     JWK
	spki    []byte
}

// newSigner makes a key of the algorithm; that of RS256 is always the RFC's, for making one takes longer than
// any test here.
func newSigner(t testing.TB, algorithm Algorithm) *signer {
	t.Helper()
	var private crypto.Signer = josetest.RFC7515A2Key(t)
	var err error
	switch algorithm {
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
	}
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, algorithm, private)
}

func signerOf(t testing.TB, algorithm Algorithm, private crypto.Signer) *signer {
	t.Helper()
	key, err := NewKey(algorithm, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	described, err := NewJWK(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &signer{Key: key, id: described.Thumbprint(), private: private, jwk: described, spki: spki}
}

// forger verifies as every user of this package does, with one key of the test's.
type forger struct {
	key   *signer
	rules Rules
	clock *josetest.Clock
}

func newForger(t testing.TB, algorithm Algorithm) *forger {
	t.Helper()
	return &forger{
		key: newSigner(t, algorithm), clock: josetest.NewClock(),
		rules: Rules{Issuer: testIssuer, Audience: testAudience, MaxTTL: testMaxTTL},
	}
}

func (f *forger) Verify(_ context.Context, token string) (*Claims, error) {
	parsed, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	if parsed.KeyID() != f.key.id {
		return nil, invalid("unknown key id")
	}
	return parsed.Claims(f.key.Key, f.rules, f.clock.Now())
}

// JWKS is the set that has the forger's key.
func (f *forger) JWKS(t testing.TB) []byte {
	t.Helper()
	entry := f.key.jwk
	entry.Use, entry.Algorithm, entry.KeyID = "sig", f.key.algorithm, f.key.id
	return []byte(josetest.JSON(t, map[string]any{"keys": []JWK{entry}}))
}

// wantRefused checks that token is refused as invalid and that the reason fits: a token that is refused for
// another reason would prove nothing.
func (f *forger) wantRefused(t *testing.T, token, reason string) {
	t.Helper()
	claims, err := f.Verify(t.Context(), token)
	if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrExpired) || claims != nil {
		t.Errorf("got %v, %v, want ErrInvalid", claims, err)
		return
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("refused as %q, want %q", err, reason)
	}
}

func (f *forger) wantAccepted(t *testing.T, token string) {
	t.Helper()
	if _, err := f.Verify(t.Context(), token); err != nil {
		t.Errorf("refused: %v", err)
	}
}

func algorithms() []Algorithm { return []Algorithm{EdDSA, ES256, RS256} }

func testClaims() Claims {
	issued := josetest.Start().Truncate(time.Second).UTC()
	return Claims{
		UserID:    uuid.MustParse("0197c2a4-1111-7abc-8def-0123456789ab"),
		SessionID: uuid.MustParse("0197c2a4-2222-7abc-8def-0123456789ab"),
		Position:  9_007_199_254_740_993, // 2^53 + 1: a float would lose it.
		ID:        "3f6f0c6e-jti", ClientID: testClientID,
		AuthTime: issued.Add(-time.Minute), IssuedAt: issued, ExpireTime: issued.Add(15 * time.Minute),
		EmailVerified: true, AMR: []string{"pwd", "otp"},
	}
}

// sign returns claims as a token, as Latchkey makes it.
func (f *forger) sign(t testing.TB, claims Claims) string {
	t.Helper()
	wire, err := f.rules.Write(claims)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := jwt.NewWithClaims(f.key.method, jwt.MapClaims(wire))
	unsigned.Header["typ"], unsigned.Header["kid"] = TokenType, f.key.id
	token, err := unsigned.SignedString(f.key.private)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wireClaims returns the claims of testClaims as they stand in a token, to be changed by a test.
func wireClaims() map[string]any {
	c := testClaims()
	return map[string]any{
		"iss": testIssuer, "aud": testAudience, "client_id": testClientID,
		"sub": c.UserID.String(), "sid": c.SessionID.String(), "led": c.Position, "jti": c.ID,
		"iat": c.IssuedAt.Unix(), "exp": c.ExpireTime.Unix(),
	}
}

// testHeader is the header of a good token under key.
func testHeader(key *signer) map[string]any {
	return map[string]any{"typ": TokenType, "alg": string(key.algorithm), "kid": key.id}
}

// forge signs any header and payload with key, as everybody with the key can.
func forge(t testing.TB, key *signer, header, payload string) string {
	t.Helper()
	signed := encodeSegment([]byte(header)) + "." + encodeSegment([]byte(payload))
	signature, err := key.method.Sign(signed, key.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encodeSegment(signature)
}
