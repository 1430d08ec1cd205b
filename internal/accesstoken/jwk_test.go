package accesstoken

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

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
		described, err := NewJWK(&private.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if x, y := josetest.Base64(t, described.X), josetest.Base64(t, described.Y); len(x) != 32 || len(y) != 32 {
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
	edwards, p256, big2048 := newSigner(t, EdDSA).public, newSigner(t, ES256).public, newSigner(t, RS256)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	modulus := josetest.RFC7515A2Key(t).N
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
			if _, err := NewKey(c.algorithm, c.public); (err == nil) != c.good {
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
		if _, err := NewKey(Algorithm(name), newSigner(t, EdDSA).public); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%q: NewKey: %v", name, err)
		}
	}
}
