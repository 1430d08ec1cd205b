package accesstoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// No part of a token can be cut off or changed.
func TestVerifyRefusesDamage(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			f := newForger(t, algorithm)
			token := f.sign(t, testClaims())
			f.wantAccepted(t, token)
			refuse := func(what, damaged string) {
				if _, err := f.Verify(t.Context(), damaged); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: got %v, want ErrInvalid", what, err)
				}
			}
			for i := range token {
				refuse(fmt.Sprintf("cut to %d bytes", i), token[:i])
				refuse(fmt.Sprintf("without the first %d bytes", i+1), token[i+1:])
				refuse(fmt.Sprintf("without byte %d", i), token[:i]+token[i+1:])
				for bit := range 8 {
					if algorithm != EdDSA && bit != i%8 {
						continue // One bit of each byte is enough for the slower ones.
					}
					damaged := []byte(token)
					damaged[i] ^= 1 << bit
					refuse(fmt.Sprintf("bit %d of byte %d flipped", bit, i), string(damaged))
				}
			}
		})
	}
}

func TestVerifyForm(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	token := f.sign(t, testClaims())
	parts := strings.Split(token, ".")
	for name, c := range map[string]struct{ token, reason string }{
		"empty":               {"", "three parts"},
		"two dots only":       {"..", "three parts"},
		"two parts":           {parts[0] + "." + parts[1], "three parts"},
		"no signature":        {parts[0] + "." + parts[1] + ".", "three parts"},
		"no payload":          {parts[0] + ".." + parts[2], "three parts"},
		"no header":           {"." + parts[1] + "." + parts[2], "three parts"},
		"four parts":          {token + "." + parts[2], "three parts"},
		"empty fourth part":   {token + ".", "three parts"},
		"leading dot":         {"." + token, "three parts"},
		"two dots together":   {parts[0] + ".." + parts[1] + "." + parts[2], "three parts"},
		"padded signature":    {token + "==", "base64url"},
		"padded header":       {parts[0] + "=." + parts[1] + "." + parts[2], "base64url"},
		"trailing newline":    {token + "\n", "base64url"},
		"newline in header":   {parts[0][:4] + "\n" + parts[0][4:] + "." + parts[1] + "." + parts[2], "base64url"},
		"newline in payload":  {parts[0] + "." + parts[1][:4] + "\r\n" + parts[1][4:] + "." + parts[2], "signature"},
		"leading space":       {" " + token, "base64url"},
		"standard base64":     {parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 43), "base64url"},
		"unused bits":         {token[:len(token)-1] + nextInAlphabet(token[len(token)-1]), "base64url"},
		"header is no JSON":   {encodeSegment([]byte("hello")) + "." + parts[1] + "." + parts[2], "header"},
		"header is an array":  {encodeSegment([]byte("[]")) + "." + parts[1] + "." + parts[2], "header"},
		"header has trailing": {encodeSegment([]byte(josetest.JSON(t, testHeader(f.key))+"{}")) + "." + parts[1] + "." + parts[2], "header"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.wantRefused(t, c.token, c.reason)
		})
	}
}

// nextInAlphabet returns the base64url digit after c: another spelling of the same bytes when c ends a
// segment with unused bits.
func nextInAlphabet(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[(strings.IndexByte(alphabet, c)+1)%len(alphabet)])
}

// The payload's spelling is checked even where the signature covers it.
func TestVerifyPayloadSpelling(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	header := encodeSegment([]byte(josetest.JSON(t, testHeader(f.key))))
	good := encodeSegment([]byte(josetest.JSON(t, wireClaims())))
	for name, payload := range map[string]string{
		"newline": good[:8] + "\n" + good[8:], "padding": good + "=", "space": good + " ",
	} {
		signature, err := f.key.method.Sign(header+"."+payload, f.key.private)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.wantRefused(t, header+"."+payload+"."+encodeSegment(signature), "base64url")
		})
	}
}

func TestVerifyHeader(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	payload := josetest.JSON(t, wireClaims())
	accepted := map[string]map[string]any{
		"unchanged":       {},
		"full media type": {"typ": "application/at+jwt"},
		"upper case":      {"typ": "AT+JWT"},
		"mixed case":      {"typ": "Application/aT+jWt"},
		// For verifiers that do not know RFC 9068.
		"plain JWT":            {"typ": "JWT"},
		"plain JWT, full name": {"typ": "application/jwt"},
		// RFC 9864.
		"EdDSA's newer name": {"alg": "Ed25519"},
		// A key in the header is no key: the signature is checked with ours.
		"embedded jwk": {"jwk": map[string]any{"kty": "oct", "k": "AAAA"}, "jku": "https://evil.example", "x5u": "https://evil.example"},
		"unknown":      {"cty": "text", "x": map[string]any{"y": []any{1, nil}}},
	}
	for name, change := range accepted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := testHeader(f.key)
			maps.Copy(header, change)
			f.wantAccepted(t, forge(t, f.key, josetest.JSON(t, header), payload))
		})
	}
	type refusal struct {
		change map[string]any
		reason string
	}
	for name, c := range map[string]refusal{
		"typ logout":      {map[string]any{"typ": "logout+jwt"}, "not an access token"},
		"typ JWTs":        {map[string]any{"typ": "JWTs"}, "not an access token"},
		"alg ed25519":     {map[string]any{"alg": "ed25519"}, "algorithm is not allowed"},
		"alg Ed448":       {map[string]any{"alg": "Ed448"}, "algorithm is not allowed"},
		"typ absent":      {map[string]any{"typ": nil}, "not an access token"},
		"typ a number":    {map[string]any{"typ": 1}, "not an access token"},
		"typ look-alike":  {map[string]any{"typ": "at+jwt\u017f"}, "not an access token"},
		"typ with suffix": {map[string]any{"typ": "at+jwt;v=1"}, "not an access token"},
		"alg none":        {map[string]any{"alg": "none"}, "algorithm is not allowed"},
		"alg None":        {map[string]any{"alg": "None"}, "algorithm is not allowed"},
		"alg nOnE":        {map[string]any{"alg": "nOnE"}, "algorithm is not allowed"},
		"alg empty":       {map[string]any{"alg": ""}, "algorithm is not allowed"},
		"alg a list":      {map[string]any{"alg": []string{"EdDSA"}}, "algorithm is not allowed"},
		"alg case":        {map[string]any{"alg": "eddsa"}, "algorithm is not allowed"},
		"alg HS256":       {map[string]any{"alg": "HS256"}, "algorithm is not allowed"},
		"alg PS256":       {map[string]any{"alg": "PS256"}, "algorithm is not allowed"},
		"alg ES256":       {map[string]any{"alg": "ES256"}, "algorithm is not the key's"},
		"alg RS256":       {map[string]any{"alg": "RS256"}, "algorithm is not the key's"},
		"kid empty":       {map[string]any{"kid": ""}, "no key id"},
		"kid a number":    {map[string]any{"kid": 7}, "no key id"},
		"kid unknown":     {map[string]any{"kid": "../../dev/null"}, "unknown key id"},
		"kid case":        {map[string]any{"kid": strings.ToUpper(f.key.id)}, "unknown key id"},
		"crit":            {map[string]any{"crit": []string{"b64"}, "b64": false}, "critical"},
		"crit empty":      {map[string]any{"crit": []string{}}, "critical"},
		"crit null":       {map[string]any{"crit": nil}, "critical"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := testHeader(f.key)
			maps.Copy(header, c.change)
			f.wantRefused(t, forge(t, f.key, josetest.JSON(t, header), payload), c.reason)
		})
	}
	t.Run("no kid", func(t *testing.T) {
		t.Parallel()
		f.wantRefused(t, forge(t, f.key, `{"typ":"at+jwt","alg":"EdDSA"}`, payload), "no key id")
	})
	t.Run("duplicate", func(t *testing.T) {
		t.Parallel()
		header := strings.Replace(josetest.JSON(t, testHeader(f.key)), "{", `{"alg":"EdDSA",`, 1)
		f.wantRefused(t, forge(t, f.key, header, payload), "header")
	})
	t.Run("duplicate by escape", func(t *testing.T) {
		t.Parallel()
		header := strings.Replace(josetest.JSON(t, testHeader(f.key)), "{", `{"\u0061lg":"none",`, 1)
		f.wantRefused(t, forge(t, f.key, header, payload), "header")
	})
}

// Every algorithm's token under every other algorithm's name and key.
func TestVerifySwappedAlgorithms(t *testing.T) {
	t.Parallel()
	payload := josetest.JSON(t, wireClaims())
	for _, algorithm := range algorithms() {
		f := newForger(t, algorithm)
		for _, other := range algorithms() {
			if other == algorithm {
				continue
			}
			t.Run(fmt.Sprintf("%s key named %s", algorithm, other), func(t *testing.T) {
				t.Parallel()
				header := testHeader(f.key)
				header["alg"] = string(other)
				f.wantRefused(t, forge(t, f.key, josetest.JSON(t, header), payload), "algorithm is not the key's")
				// Really signed by the other algorithm, under the id of ours.
				stranger := newSigner(t, other)
				f.wantRefused(t, forge(t, stranger, josetest.JSON(t, header), payload), "algorithm is not the key's")
				header["alg"] = string(algorithm)
				f.wantRefused(t, forge(t, stranger, josetest.JSON(t, header), payload), "signature")
			})
		}
	}
}

// The public key as an HMAC secret, in every form it is known by.
func TestVerifyKeyConfusion(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			f := newForger(t, algorithm)
			header := testHeader(f.key)
			header["alg"] = "HS256"
			signed := encodeSegment([]byte(josetest.JSON(t, header))) + "." + encodeSegment([]byte(josetest.JSON(t, wireClaims())))
			for _, secret := range [][]byte{
				f.key.spki,
				pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: f.key.spki}),
				[]byte(josetest.JSON(t, f.key.jwk)),
				f.JWKS(t),
				[]byte(f.key.jwk.X),
				{},
			} {
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				f.wantRefused(t, signed+"."+encodeSegment(mac.Sum(nil)), "algorithm is not allowed")
			}
		})
	}
}

func TestVerifyStrangers(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			f := newForger(t, EdDSA)
			stranger := newSigner(t, algorithm)
			payload := josetest.JSON(t, wireClaims())
			f.wantRefused(t, forge(t, stranger, josetest.JSON(t, testHeader(stranger)), payload), "unknown key id")
			own := testHeader(stranger)
			own["kid"] = f.key.id
			own["alg"] = string(f.key.algorithm)
			f.wantRefused(t, forge(t, stranger, josetest.JSON(t, own), payload), "signature")
		})
	}
	t.Run("signature of another token", func(t *testing.T) {
		t.Parallel()
		f := newForger(t, EdDSA)
		first := f.sign(t, testClaims())
		claims := testClaims()
		claims.Position++
		second := f.sign(t, claims)
		f.wantRefused(t, first[:strings.LastIndex(first, ".")]+second[strings.LastIndex(second, "."):], "signature")
	})
}

// 4096 bytes are looked at and 4097 are not, with good signatures on both.
func TestVerifyLength(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	lengths := map[int]string{}
	for headerPad := range 8 {
		for payloadPad := 2500; payloadPad < 2800; payloadPad++ {
			if lengths[MaxTokenBytes] != "" && lengths[MaxTokenBytes+1] != "" {
				break
			}
			header, claims := testHeader(f.key), wireClaims()
			header["pad"], claims["pad"] = strings.Repeat("x", headerPad), strings.Repeat("x", payloadPad)
			token := forge(t, f.key, josetest.JSON(t, header), josetest.JSON(t, claims))
			lengths[len(token)] = token
		}
	}
	longest, tooLong := lengths[MaxTokenBytes], lengths[MaxTokenBytes+1]
	if longest == "" || tooLong == "" {
		t.Fatal("no token of the lengths needed")
	}
	f.wantAccepted(t, longest)
	f.wantRefused(t, tooLong, "longer than 4096")
	f.wantRefused(t, strings.Repeat("A", 1<<20), "longer than 4096")
}

// Errors are for logs: they must not carry the token.
func TestVerifyErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	const secret = "QUOTEDSECRET"
	for name, token := range map[string]string{
		"garbage":   secret,
		"header":    encodeSegment([]byte(`{"`+secret+`"`)) + ".e30.AAAA",
		"algorithm": forge(t, f.key, josetest.JSON(t, map[string]any{"alg": secret, "kid": f.key.id}), "{}"),
		"kid":       forge(t, f.key, josetest.JSON(t, map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": secret}), "{}"),
		"type":      forge(t, f.key, josetest.JSON(t, map[string]any{"alg": "EdDSA", "typ": secret, "kid": f.key.id}), "{}"),
		"claims":    forge(t, f.key, josetest.JSON(t, testHeader(f.key)), `{"iss":"`+secret+`"}`),
		"no claims": forge(t, f.key, josetest.JSON(t, testHeader(f.key)), `{"iss":"`+secret),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := f.Verify(t.Context(), token)
			if !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Expired is said of a token that is right in every other way, from the second of "exp" on, and of no other.
func TestVerifyExpiry(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	claims := testClaims()
	token := f.sign(t, claims)
	f.clock.Add(claims.ExpireTime.Sub(f.clock.Now()) - time.Nanosecond)
	f.wantAccepted(t, token)
	f.clock.Add(time.Nanosecond)
	_, err := f.Verify(t.Context(), token)
	josetest.WantError(t, err, ErrExpired)
	if errors.Is(err, ErrInvalid) {
		t.Error("an expired token is also called invalid")
	}
	f.clock.Add(24 * time.Hour)
	_, err = f.Verify(t.Context(), token)
	josetest.WantError(t, err, ErrExpired)

	other := wireClaims()
	other["iss"] = "https://other.example.com"
	f.wantRefused(t, forge(t, f.key, josetest.JSON(t, testHeader(f.key)), josetest.JSON(t, other)), "issuer")
	dot := strings.LastIndex(token, ".")
	signature := josetest.Base64(t, token[dot+1:])
	signature[0] ^= 1
	f.wantRefused(t, token[:dot+1]+encodeSegment(signature), "signature")
	long := wireClaims()
	long["iat"] = claims.ExpireTime.Unix() - int64(testMaxTTL/time.Second) - 1
	f.wantRefused(t, forge(t, f.key, josetest.JSON(t, testHeader(f.key)), josetest.JSON(t, long)), "exp")
}
