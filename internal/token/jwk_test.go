package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"testing"
)

// A key read back from the published set by the rules of the RFCs is the key
// that signs, and nothing private is in it.
func TestJWKS(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, newClock()
	keys := []*signingKey{testKey(t, EdDSA), testKey(t, ES256), testKey(t, RS256)}
	for _, key := range keys[:2] {
		storeKey(t, store, StateVerifyOnly, key, testSealKey(1))
	}
	storeKey(t, store, "pending", testKey(t, EdDSA), testSealKey(1))
	storeKey(t, store, "gone", testKey(t, EdDSA), testSealKey(1))
	storeKey(t, store, StateActive, keys[2], testSealKey(1))
	k := mustOpen(t, testConfig(store, c, RS256))

	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(k.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	modulus := rfc7515A2Key(t).N
	want := []map[string]string{
		{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": keys[0].jwk.X},
		{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": keys[1].jwk.X, "y": keys[1].jwk.Y},
		{"kty": "RSA", "alg": "RS256", "e": "AQAB", "n": encodeSegment(modulus.Bytes())},
	}
	for i, members := range want {
		members["use"], members["kid"] = "sig", keys[i].id
	}
	if !reflect.DeepEqual(set.Keys, want) {
		t.Errorf("got  %v\nwant %v", set.Keys, want)
	}
	if public, ok := keys[0].public.(ed25519.PublicKey); !ok || !slices.Equal(decodeBase64(t, set.Keys[0]["x"]), public) {
		t.Error("x is not the Ed25519 key")
	}
	point := slices.Concat([]byte{4}, decodeBase64(t, set.Keys[1]["x"]), decodeBase64(t, set.Keys[1]["y"]))
	if public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil || !public.Equal(keys[1].public) {
		t.Errorf("x and y are not the P-256 key: %v", err)
	}

	// The order is that of making, whatever order the store answers in.
	first := k.JWKS()
	store.edit(func(rows []StoredKey) []StoredKey { slices.Reverse(rows); return rows })
	if err := k.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.JWKS(); !slices.Equal(got, first) {
		t.Errorf("the order changed:\n%s\n%s", first, got)
	}
	clear(k.JWKS())
	if !json.Valid(k.JWKS()) {
		t.Error("a caller can change the set")
	}
}

// Coordinates keep leading zeros. One key in 256 has one in x, one in y.
func TestJWKFixedWidth(t *testing.T) {
	t.Parallel()
	seen := [2]bool{}
	for range 100_000 {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 && point[33] != 0 {
			continue
		}
		described, err := newJWK(&private.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if x, y := decodeBase64(t, described.X), decodeBase64(t, described.Y); len(x) != 32 || len(y) != 32 {
			t.Errorf("x has %d bytes, y has %d", len(x), len(y))
		}
		seen[0], seen[1] = seen[0] || point[1] == 0, seen[1] || point[33] == 0
		if seen[0] && seen[1] {
			return
		}
	}
	t.Error("no coordinates with leading zeros in 100,000 keys")
}

// A key is bound to its algorithm by type, curve and size.
func TestAlgorithmCheck(t *testing.T) {
	t.Parallel()
	edwards, p256, big2048 := testKey(t, EdDSA).public, testKey(t, ES256).public, testKey(t, RS256)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	modulus := rfc7515A2Key(t).N
	for name, c := range map[string]struct {
		algorithm Algorithm
		public    any
		good      bool
	}{
		"Ed25519":           {EdDSA, edwards, true},
		"Ed25519 cut short": {EdDSA, ed25519.PublicKey{1, 2, 3}, false},
		"Ed25519 as P-256":  {EdDSA, p256, false},
		"P-256":             {ES256, p256, true},
		"P-384":             {ES256, &p384.PublicKey, false},
		"P-256 as RSA":      {ES256, big2048.public, false},
		"RSA 2048":          {RS256, big2048.public, true},
		"RSA 1024":          {RS256, &small.PublicKey, false},
		"RSA 8192":          {RS256, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8191), E: 65537}, false},
		"RSA exponent 1":    {RS256, &rsa.PublicKey{N: modulus, E: 1}, false},
		"RSA exponent 3":    {RS256, &rsa.PublicKey{N: modulus, E: 3}, false},
		"RSA even exponent": {RS256, &rsa.PublicKey{N: modulus, E: 65538}, false},
		"RSA as Ed25519":    {RS256, edwards, false},
		"unknown":           {"PS256", big2048.public, false},
		"nothing":           {EdDSA, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.algorithm.check(c.public); (err == nil) != c.good {
				t.Errorf("got %v, want good %v", err, c.good)
			}
		})
	}
}

func TestParseAlgorithm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		if got, err := ParseAlgorithm(string(algorithm)); got != algorithm || err != nil {
			t.Errorf("%s: got %s, %v", algorithm, got, err)
		}
	}
	for _, name := range []string{"", "none", "None", "eddsa", "EDDSA", "HS256", "RS512", "PS256", "ES384", "EdDSA "} {
		got, err := ParseAlgorithm(name)
		if got != "" || !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
		if _, err := Algorithm(name).generate(); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%q: generate: %v", name, err)
		}
	}
}

// A signature made with a key of another type is an error, not a panic.
func TestES256RefusesOtherKeys(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []any{nil, testKey(t, EdDSA).private, p384} {
		if signature, err := ES256.method().Sign("x", private); err == nil || signature != nil {
			t.Errorf("%T: signed", private)
		}
	}
}
