package signing

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

const (
	olderIssuer = "saas-platform"
	olderEmail  = "ada@example.com"
)

// bothConfig signs for both systems for an hour from the tests' start, with the key of RFC 7515, appendix
// A.2.
func bothConfig(t testing.TB, store KeyStore, c *josetest.Clock) Config {
	t.Helper()
	private := josetest.RFC7515A2Key(t)
	config := testConfig(store, c, accesstoken.EdDSA)
	config.Older = &OlderKey{Issuer: olderIssuer, Public: &private.PublicKey, Private: private, Until: josetest.Start().Add(time.Hour)}
	return config
}

func mustSignForBoth(t testing.TB, k *Keyring, claims accesstoken.Claims, email string) string {
	t.Helper()
	token, err := k.SignForBoth(t.Context(), claims, email)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// part reads the header (0) or the claims (1) of a token.
func part(t testing.TB, token string, n int) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

// TestSignForBoth: a token has all that ours have, and what the older backend reads.
func TestSignForBoth(t *testing.T) {
	t.Parallel()
	c, store := josetest.NewClock(), &memoryStore{}
	k := mustOpen(t, bothConfig(t, store, c))
	claims := testClaims()
	token := mustSignForBoth(t, k, claims, olderEmail)
	if again := mustSignForBoth(t, k, claims, olderEmail); again != token {
		t.Error("the same claims gave another token")
	}
	if id := k.OlderKeyID(); id == "" || part(t, token, 0)["kid"] != id || part(t, token, 0)["alg"] != "RS256" || part(t, token, 0)["typ"] != "at+jwt" {
		t.Errorf("header %v", part(t, token, 0))
	}
	said := part(t, token, 1)
	issued := float64(claims.IssuedAt.Unix())
	for name, want := range map[string]any{
		"iss": olderIssuer, "sub": claims.UserID.String(), "user_id": claims.UserID.String(), "email": olderEmail,
		"iat": issued, "nbf": issued - 60, "exp": issued + 900, "jti": claims.ID, "sid": claims.SessionID.String(),
		"aud": testAudience, "client_id": testClientID,
	} {
		if said[name] != want {
			t.Errorf("%s is %v, want %v", name, said[name], want)
		}
	}
	verified, err := k.VerifyAny(t.Context(), token)
	got, id := verified.Claims, verified.KeyID
	if err != nil || id != k.OlderKeyID() || got.Position != claims.Position || got.SessionID != claims.SessionID || !got.ExpireTime.Equal(claims.ExpireTime) {
		t.Errorf("%+v, %q, %v", got, id, err)
	}
	if !k.Has(id) {
		t.Error("the keyring does not have the key")
	}
	if strings.Contains(string(k.JWKS()), id) {
		t.Error("the older backend's key is published")
	}
	// A replica that has the public key only reads it; one that has none does not.
	public := bothConfig(t, store, c)
	public.Older.Private = nil
	reader := mustOpen(t, public)
	if _, err := reader.Verify(t.Context(), token); err != nil {
		t.Errorf("by the public key: %v", err)
	}
	if native := mustSignForBoth(t, reader, claims, olderEmail); part(t, native, 1)["iss"] != testIssuer {
		t.Error("signed for both without the private key")
	}
	if _, err := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)).Verify(t.Context(), token); !errors.Is(err, accesstoken.ErrInvalid) {
		t.Errorf("without the older backend's key: %v", err)
	}
}

// TestSignForBothEnds: what the older backend would misread, or what would outlive its key, is signed with
// Latchkey's own.
func TestSignForBothEnds(t *testing.T) {
	t.Parallel()
	c := josetest.NewClock()
	config := bothConfig(t, &memoryStore{}, c)
	claims := testClaims()
	config.Older.Until = claims.ExpireTime
	k := mustOpen(t, config)
	last := mustSignForBoth(t, k, claims, olderEmail)
	if part(t, last, 1)["iss"] != olderIssuer {
		t.Error("the last token for both is not one")
	}
	longer := claims
	longer.ExpireTime = claims.ExpireTime.Add(time.Second)
	for name, token := range map[string]string{
		"too long": mustSignForBoth(t, k, longer, olderEmail), "no address": mustSignForBoth(t, k, claims, ""),
		"Sign": mustSign(t, k, claims),
	} {
		if said := part(t, token, 1); said["iss"] != testIssuer || said["email"] != nil || said["user_id"] != nil || said["nbf"] != nil {
			t.Errorf("%s: %v", name, said)
		}
		if verified, err := k.VerifyAny(t.Context(), token); err != nil || verified.KeyID == k.OlderKeyID() {
			t.Errorf("%s: %q, %v", name, verified.KeyID, err)
		}
	}
	c.Add(claims.ExpireTime.Sub(c.Now()) - 1)
	if _, err := k.Verify(t.Context(), last); err != nil || !k.Has(k.OlderKeyID()) {
		t.Errorf("in its last moment: %v", err)
	}
	c.Add(1)
	if _, err := k.Verify(t.Context(), last); !errors.Is(err, accesstoken.ErrExpired) || k.Has(k.OlderKeyID()) {
		t.Errorf("after the date: %v", err)
	}
}

// TestOlderKeyIsBound: the older backend's key speaks for the older backend's issuer only, with its own
// algorithm and until its date, and no other key speaks for that issuer.
func TestOlderKeyIsBound(t *testing.T) {
	t.Parallel()
	c := josetest.NewClock()
	config := bothConfig(t, &memoryStore{}, c)
	k := mustOpen(t, config)
	private, id := config.Older.Private, k.OlderKeyID()
	claims := testClaims()
	sign := func(method jwt.SigningMethod, key any, kid, typ string, rules accesstoken.Rules, change func(map[string]any)) string {
		t.Helper()
		rules.MaxTTL = 100 * time.Hour
		wire, err := rules.Write(claims)
		if err != nil {
			t.Fatal(err)
		}
		change(wire)
		unsigned := jwt.NewWithClaims(method, jwt.MapClaims(wire))
		unsigned.Header["kid"], unsigned.Header["typ"] = kid, typ
		token, err := unsigned.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ours := accesstoken.Rules{Issuer: testIssuer, Audience: testAudience}
	theirs := accesstoken.Rules{Issuer: olderIssuer, Audience: testAudience}
	nothing := func(map[string]any) {}
	if _, err := k.Verify(t.Context(), sign(jwt.SigningMethodRS256, private, id, "at+jwt", theirs, nothing)); err != nil {
		t.Fatal(err)
	}
	active := k.keys.Load().active
	for name, token := range map[string]string{
		"our issuer by the older backend's key": sign(jwt.SigningMethodRS256, private, id, "at+jwt", ours, nothing),
		"the older backend's issuer by our key": sign(active.method, active.private, active.id, "at+jwt", theirs, nothing),
		"our key by the older key's id":         sign(active.method, active.private, id, "at+jwt", theirs, nothing),
		"the older backend's key by our id":     sign(jwt.SigningMethodRS256, private, active.id, "at+jwt", ours, nothing),
		"another type":                          sign(jwt.SigningMethodRS256, private, id, "JWT", theirs, nothing),
		"PS256":                                 sign(jwt.SigningMethodPS256, private, id, "at+jwt", theirs, nothing),
		"the modulus as a secret":               sign(jwt.SigningMethodHS256, private.N.Bytes(), id, "at+jwt", theirs, nothing),
		"without a session":                     sign(jwt.SigningMethodRS256, private, id, "at+jwt", theirs, func(w map[string]any) { delete(w, "sid") }),
		"for another audience":                  sign(jwt.SigningMethodRS256, private, id, "at+jwt", theirs, func(w map[string]any) { w["aud"] = "x" }),
		"longer than any of ours":               sign(jwt.SigningMethodRS256, private, id, "at+jwt", theirs, func(w map[string]any) { w["exp"] = claims.IssuedAt.Add(2 * time.Hour).Unix() }),
		"beyond the date of its key": sign(jwt.SigningMethodRS256, private, id, "at+jwt", theirs, func(w map[string]any) {
			w["exp"] = josetest.Start().Add(time.Hour).Unix() + 1
			w["iat"] = claims.IssuedAt.Unix() + 30
		}),
	} {
		if _, err := k.Verify(t.Context(), token); !errors.Is(err, accesstoken.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOlderKeyNeeds(t *testing.T) {
	t.Parallel()
	other, err := generate(accesstoken.RS256)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*OlderKey){
		"no issuer":      func(f *OlderKey) { f.Issuer = "" },
		"no public key":  func(f *OlderKey) { f.Public = nil },
		"no date":        func(f *OlderKey) { f.Until = time.Time{} },
		"another's half": func(f *OlderKey) { f.Public = other.Public().(*rsa.PublicKey) }, //nolint:forcetypeassert // of RS256
		"a small key":    func(f *OlderKey) { f.Public, f.Private = &rsa.PublicKey{N: big.NewInt(15), E: 65537}, nil },
	} {
		config := bothConfig(t, &memoryStore{}, josetest.NewClock())
		change(config.Older)
		if _, err := Open(t.Context(), config); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
