package accesstoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// Verify never panics, and accepts only what Sign makes: signing the claims of an accepted token again gives
// the same bytes.
func FuzzVerify(f *testing.F) {
	ring := newForger(f, EdDSA)
	token := ring.sign(f, testClaims())
	parts := strings.Split(token, ".")
	for _, seed := range []string{
		token, "", ".", "..", "...", token + ".", token + "\n", token[:len(token)-1], parts[0] + "." + parts[1] + ".",
		parts[1] + "." + parts[0] + "." + parts[2], josetest.RFC8037JWS, strings.Repeat("A", 5000),
		encodeSegment([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".AA",
		encodeSegment([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"`+ring.key.id+`"}`)) + "." + parts[1] + "." + parts[2],
		encodeSegment([]byte(nested(5000))) + ".e30.AA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := ring.Verify(t.Context(), token)
		if err != nil {
			if claims != nil || errors.Is(err, ErrExpired) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("claims %v, error %v", claims, err)
			}
			return
		}
		if again := ring.sign(t, *claims); again != token {
			t.Fatalf("accepted %q, which is not %q", token, again)
		}
	})
}

// Behind a good signature, no claims are accepted that break a rule. The rules are written out again, over
// another reading of the JSON.
func FuzzClaims(f *testing.F) {
	ring := newForger(f, EdDSA)
	for _, c := range claimCases() {
		wire := wireClaims()
		maps.Copy(wire, c.change)
		maps.DeleteFunc(wire, func(_ string, value any) bool { return value == nil })
		f.Add(josetest.JSON(f, testHeader(ring.key)), josetest.JSON(f, wire))
	}
	f.Add(`{"alg":"EdDSA","alg":"none"}`, `{"exp":1,"exp":2}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		claims, err := ring.Verify(t.Context(), forge(t, ring.key, header, payload))
		if err != nil {
			if claims != nil {
				t.Fatal("claims came with an error")
			}
			return
		}
		checkAccepted(t, ring, header, payload, claims)
	})
}

func checkAccepted(t *testing.T, ring *forger, header, payload string, claims *Claims) {
	t.Helper()
	var head, body map[string]json.RawMessage
	if json.Unmarshal([]byte(header), &head) != nil || json.Unmarshal([]byte(payload), &body) != nil {
		t.Fatal("accepted what is not JSON")
	}
	text := func(object map[string]json.RawMessage, name string) string {
		var value string
		if err := json.Unmarshal(object[name], &value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return value
	}
	if text(head, "alg") != "EdDSA" || text(head, "kid") != ring.key.id || head["crit"] != nil ||
		!strings.HasSuffix(strings.ToLower(text(head, "typ")), "at+jwt") {
		t.Fatalf("accepted the header %s", header)
	}
	if text(body, "iss") != testIssuer || !bytes.Contains(body["aud"], []byte(`"`)) ||
		text(body, "sub") != claims.UserID.String() || text(body, "sid") != claims.SessionID.String() ||
		text(body, "jti") != claims.ID || text(body, "client_id") != claims.ClientID {
		t.Fatalf("accepted the claims %s", payload)
	}
	now := ring.clock.Now()
	life := claims.ExpireTime.Sub(claims.IssuedAt)
	if claims.Position < 0 || !now.Before(claims.ExpireTime) || claims.IssuedAt.After(now.Add(60*time.Second)) ||
		life <= 0 || life > testMaxTTL {
		t.Fatalf("accepted the times %s", payload)
	}
}
