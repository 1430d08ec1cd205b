package signing

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// The claims as they stand in the token, by a reader that is not ours.
func TestSignWritesRFC9068(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.ES256)
	claims := testClaims()
	parts := strings.Split(mustSign(t, f.Keyring, claims), ".")
	wantJSON(t, josetest.Base64(t, parts[0]), map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": f.key.id})
	wantJSON(t, josetest.Base64(t, parts[1]), map[string]any{
		"iss": testIssuer, "aud": testAudience, "client_id": testClientID, "jti": claims.ID,
		"sub": claims.UserID.String(), "sid": claims.SessionID.String(), "led": json.Number("9007199254740993"),
		"iat": json.Number("1800000000"), "exp": json.Number("1800000900"), "auth_time": json.Number("1799999940"),
		"amr": []any{"pwd", "otp"}, "acr": "aal2", "email_verified": true,
	})
}

func wantJSON(t *testing.T, data []byte, want map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	var got map[string]any
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Whatever Sign accepts comes back from Verify as it was, to the second, and signing again gives the same
// bytes.
func TestSignVerifyRoundTrip(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			f := newForger(t, algorithm)
			rapid.Check(t, func(r *rapid.T) {
				claims := drawClaims(r, f.clock.Now())
				token, err := f.Sign(t.Context(), claims)
				if err != nil {
					r.Fatalf("Sign: %v", err)
				}
				got, err := f.Verify(t.Context(), token)
				if err != nil {
					r.Fatalf("Verify: %v", err)
				}
				if claims.ClientID == "" {
					claims.ClientID = testClientID
				}
				for _, at := range []*time.Time{&claims.AuthTime, &claims.IssuedAt, &claims.ExpireTime} {
					if !at.IsZero() {
						*at = time.Unix(at.Unix(), 0).UTC()
					}
				}
				if !reflect.DeepEqual(*got, claims) {
					r.Fatalf("got  %+v\nwant %+v", *got, claims)
				}
				again, err := f.Sign(t.Context(), *got)
				if err != nil || again != token {
					r.Fatalf("signed again: %v\n%s\n%s", err, again, token)
				}
			})
		})
	}
}

func drawClaims(r *rapid.T, now time.Time) accesstoken.Claims {
	id := func(name string) uuid.UUID {
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, name))
		if id == uuid.Nil {
			id[0] = 1
		}
		return id
	}
	life := time.Duration(rapid.Int64Range(int64(2*time.Second), int64(testMaxTTL-time.Second)).Draw(r, "life"))
	age := time.Duration(rapid.Int64Range(-int64(50*time.Second), int64(life-2*time.Second)).Draw(r, "age"))
	claims := accesstoken.Claims{
		UserID: id("user"), SessionID: id("session"),
		Position: rapid.Int64Range(0, 1<<63-1).Draw(r, "ledger"),
		ID:       rapid.StringN(1, 40, 160).Draw(r, "jti"),
		ClientID: rapid.StringN(0, 40, 160).Draw(r, "client"),
		IssuedAt: now.Add(-age), ExpireTime: now.Add(-age).Add(life),
	}
	if rapid.Bool().Draw(r, "auth time") {
		claims.AuthTime = time.Unix(rapid.Int64Range(0, maxUnix).Draw(r, "at"), 0)
	}
	if methods := rapid.SliceOfN(rapid.StringN(0, 8, 32), 0, 4).Draw(r, "amr"); len(methods) > 0 {
		claims.AMR = methods
	}
	return claims
}

// Sign hands out nothing that Verify refuses for good.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	for name, change := range map[string]func(*accesstoken.Claims){
		"no user":             func(c *accesstoken.Claims) { c.UserID = uuid.Nil },
		"no session":          func(c *accesstoken.Claims) { c.SessionID = uuid.Nil },
		"negative ledger":     func(c *accesstoken.Claims) { c.Position = -1 },
		"no jti":              func(c *accesstoken.Claims) { c.ID = "" },
		"jti not UTF-8":       func(c *accesstoken.Claims) { c.ID = "\xff" },
		"client id not UTF-8": func(c *accesstoken.Claims) { c.ClientID = "\xff" },
		"no times":            func(c *accesstoken.Claims) { c.IssuedAt, c.ExpireTime = time.Time{}, time.Time{} },
		"issued before 1970":  func(c *accesstoken.Claims) { c.IssuedAt = time.Unix(-1, 0); c.ExpireTime = time.Unix(5, 0) },
		"expires as issued":   func(c *accesstoken.Claims) { c.ExpireTime = c.IssuedAt.Add(999 * time.Millisecond) },
		"expires before":      func(c *accesstoken.Claims) { c.ExpireTime = c.IssuedAt.Add(-time.Second) },
		"lives too long":      func(c *accesstoken.Claims) { c.ExpireTime = c.IssuedAt.Add(testMaxTTL + time.Second) },
		"expires in year 1e4": func(c *accesstoken.Claims) {
			c.IssuedAt = time.Unix(maxUnix, 0)
			c.ExpireTime = time.Unix(maxUnix+1, 0)
		},
		"auth time before":     func(c *accesstoken.Claims) { c.AuthTime = time.Unix(-1, 0) },
		"auth time far off":    func(c *accesstoken.Claims) { c.AuthTime = time.Unix(maxUnix+1, 0) },
		"acr is not UTF-8":     func(c *accesstoken.Claims) { c.ACR = "\xff" },
		"one amr is not UTF-8": func(c *accesstoken.Claims) { c.AMR = []string{"pwd", "\xff"} },
		"too long":             func(c *accesstoken.Claims) { c.ID = strings.Repeat("x", 3000) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := testClaims()
			change(&claims)
			token, err := f.Sign(t.Context(), claims)
			josetest.WantError(t, err, accesstoken.ErrClaims)
			if token != "" {
				t.Error("a token came with the error")
			}
		})
	}
	t.Run("longest life", func(t *testing.T) {
		t.Parallel()
		claims := testClaims()
		claims.ExpireTime = claims.IssuedAt.Add(testMaxTTL)
		f.wantAccepted(t, mustSign(t, f.Keyring, claims))
	})
}
