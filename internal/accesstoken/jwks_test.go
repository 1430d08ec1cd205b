package accesstoken

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// published is the JWK of a key as Latchkey's set has it, to be changed by a test.
func published(t testing.TB, key *signer) map[string]any {
	t.Helper()
	entry := map[string]any{
		"kty": key.jwk.KeyType, "use": "sig", "alg": string(key.algorithm), "kid": key.id,
		"crv": key.jwk.Curve, "x": key.jwk.X, "y": key.jwk.Y, "n": key.jwk.N, "e": key.jwk.E,
	}
	maps.DeleteFunc(entry, func(_ string, value any) bool { return value == "" })
	return entry
}

func setOf(t testing.TB, entries ...any) string {
	t.Helper()
	return josetest.JSON(t, map[string]any{"keys": entries})
}

// Keys come back as what they were, and check what their private halves sign.
func TestParseJWKS(t *testing.T) {
	t.Parallel()
	signers := []*signer{newSigner(t, EdDSA), newSigner(t, ES256), newSigner(t, RS256)}
	var entries []any
	for _, key := range signers {
		entries = append(entries, published(t, key))
	}
	keys, err := ParseJWKS([]byte(setOf(t, entries...)))
	if err != nil || len(keys) != len(signers) {
		t.Fatalf("got %d keys, %v", len(keys), err)
	}
	rules := newForger(t, EdDSA).rules
	for _, key := range signers {
		parsed, err := ParseToken(forge(t, key, josetest.JSON(t, testHeader(key)), josetest.JSON(t, wireClaims())))
		if err != nil {
			t.Fatal(err)
		}
		held := keys[key.id]
		if held == nil || held.Algorithm() != key.algorithm {
			t.Fatalf("%s: got %+v", key.algorithm, held)
		}
		if _, err := parsed.Claims(held, rules, josetest.Start()); err != nil {
			t.Errorf("%s: %v", key.algorithm, err)
		}
	}
}

// A key that is of no use here is passed over: the set may grow new kinds.
func TestParseJWKSPassesOver(t *testing.T) {
	t.Parallel()
	good := newSigner(t, EdDSA)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := NewJWK(&small.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	weak.KeyID = "weak"
	with := func(algorithm Algorithm, change map[string]any) map[string]any {
		entry := published(t, newSigner(t, algorithm))
		maps.Copy(entry, change)
		maps.DeleteFunc(entry, func(_ string, value any) bool { return value == nil })
		return entry
	}
	for name, entry := range map[string]any{
		"no kid":               with(EdDSA, map[string]any{"kid": nil}),
		"empty kid":            with(EdDSA, map[string]any{"kid": ""}),
		"kid a number":         with(EdDSA, map[string]any{"kid": 7}),
		"for encryption":       with(EdDSA, map[string]any{"use": "enc"}),
		"use a number":         with(EdDSA, map[string]any{"use": 1}),
		"only signs":           with(EdDSA, map[string]any{"key_ops": []string{"sign"}}),
		"key_ops a string":     with(EdDSA, map[string]any{"key_ops": "verify"}),
		"new type":             map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AAAA"},
		"no type":              map[string]any{"kid": "x"},
		"type in lower case":   with(EdDSA, map[string]any{"kty": "okp"}),
		"X25519":               with(EdDSA, map[string]any{"crv": "X25519"}),
		"P-384":                with(ES256, map[string]any{"crv": "P-384"}),
		"no curve":             with(ES256, map[string]any{"crv": nil}),
		"another algorithm":    with(RS256, map[string]any{"alg": "RS512"}),
		"PS256":                with(RS256, map[string]any{"alg": "PS256"}),
		"none":                 with(EdDSA, map[string]any{"alg": "none"}),
		"algorithm of another": with(EdDSA, map[string]any{"alg": "ES256"}),
		"RSA of 1024 bits":     weak,
		"RSA of 8192 bits":     with(RS256, map[string]any{"n": encodeSegment([]byte(strings.Repeat("\xff", 1024)))}),
		"RSA exponent 3":       with(RS256, map[string]any{"e": "Aw"}),
		"RSA even exponent":    with(RS256, map[string]any{"e": encodeSegment([]byte{1, 0, 2})}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := ParseJWKS([]byte(setOf(t, entry, published(t, good))))
			if err != nil || len(keys) != 1 || keys[good.id] == nil {
				t.Errorf("got %v, %v", keys, err)
			}
			if _, err := ParseJWKS([]byte(setOf(t, entry))); !errors.Is(err, ErrKey) {
				t.Errorf("alone: got %v, want ErrKey", err)
			}
		})
	}
	// What may be absent, or says the same in other words.
	for name, change := range map[string]map[string]any{
		"no use":        {"use": nil},
		"no alg":        {"alg": nil},
		"newer name":    {"alg": "Ed25519"},
		"operations":    {"key_ops": []string{"verify"}},
		"unknown names": {"x5t": "AAAA", "iat": 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if keys, err := ParseJWKS([]byte(setOf(t, with(EdDSA, change)))); err != nil || len(keys) != 1 {
				t.Errorf("got %v, %v", keys, err)
			}
		})
	}
}

// Damage fails the whole set: half a set would refuse genuine tokens silently.
func TestParseJWKSRefuses(t *testing.T) {
	t.Parallel()
	edwards, point, modulus := newSigner(t, EdDSA), newSigner(t, ES256), newSigner(t, RS256)
	with := func(key *signer, name string, value any) string {
		entry := published(t, key)
		entry[name] = value
		if value == nil {
			delete(entry, name)
		}
		return setOf(t, entry, published(t, newSigner(t, EdDSA)))
	}
	good := setOf(t, published(t, edwards))
	cases := map[string]string{
		"empty":               "",
		"no JSON":             "hello",
		"a list":              "[]",
		"no keys":             "{}",
		"keys an object":      `{"keys":{}}`,
		"keys null":           `{"keys":null}`,
		"no key":              `{"keys":[]}`,
		"a key is a string":   `{"keys":["x"]}`,
		"trailing bytes":      good + "x",
		"cut short":           good[:len(good)-1],
		"keys twice":          strings.Replace(good, "{", `{"keys":[],`, 1),
		"a member twice":      strings.Replace(good, `"kty"`, `"kty":"EC","kty"`, 1),
		"an id twice":         setOf(t, published(t, edwards), published(t, edwards)),
		"Ed25519 private":     with(edwards, "d", "AAAA"),
		"RSA private":         with(modulus, "p", "AAAA"),
		"shared secret":       with(edwards, "k", "AAAA"),
		"x absent":            with(edwards, "x", nil),
		"x too short":         with(edwards, "x", "AAAA"),
		"x a number":          with(edwards, "x", 5),
		"x padded":            with(edwards, "x", edwards.jwk.X+"="),
		"x in another base64": with(edwards, "x", "+"+edwards.jwk.X[1:]),
		"y absent":            with(point, "y", nil),
		"y too short":         with(point, "y", point.jwk.Y[:40]),
		"off the curve":       with(point, "y", point.jwk.X),
		"n absent":            with(modulus, "n", nil),
		"n empty":             with(modulus, "n", ""),
		"n with zero first":   with(modulus, "n", encodeSegment(append([]byte{0}, josetest.Base64(t, modulus.jwk.N)...))),
		"e absent":            with(modulus, "e", nil),
		"e with zero first":   with(modulus, "e", encodeSegment([]byte{0, 1, 0, 1})),
		"e above 31 bits":     with(modulus, "e", encodeSegment([]byte{0x80, 0, 0, 1})),
		"e of five bytes":     with(modulus, "e", encodeSegment([]byte{1, 0, 0, 0, 1})),
	}
	for name, document := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := ParseJWKS([]byte(document))
			if !errors.Is(err, ErrKey) || keys != nil {
				t.Errorf("got %v, %v, want ErrKey", keys, err)
			}
		})
	}
}

// Parsing never panics, and each key that it holds is one that NewKey takes.
func FuzzParseJWKS(f *testing.F) {
	for _, algorithm := range algorithms() {
		f.Add([]byte(setOf(f, published(f, newSigner(f, algorithm)))))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[` + nested(20) + `]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, err := ParseJWKS(document)
		if err != nil {
			if !errors.Is(err, ErrKey) || keys != nil {
				t.Fatalf("got %v, %v", keys, err)
			}
			return
		}
		if len(keys) == 0 {
			t.Fatal("no key and no error")
		}
		for id, key := range keys {
			if _, err := NewKey(key.algorithm, key.public); err != nil || id == "" {
				t.Fatalf("holds %q: %v", id, err)
			}
			if _, err := NewJWK(key.public); err != nil {
				t.Fatalf("%q cannot be described: %v", id, err)
			}
		}
	})
}
