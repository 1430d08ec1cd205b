package signing

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// A key read back from the published set by the rules of the RFCs is the key that signs, and nothing private
// is in it.
func TestJWKS(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	keys := []*signingKey{testKey(t, accesstoken.EdDSA), testKey(t, accesstoken.ES256), testKey(t, accesstoken.RS256)}
	storeKey(t, store, StateVerifyOnly, keys[0], testSealKey(1))
	storeKey(t, store, StatePending, keys[1], testSealKey(1))
	storeKey(t, store, "of a later version", testKey(t, accesstoken.EdDSA), testSealKey(1))
	storeKey(t, store, StateGone, testKey(t, accesstoken.EdDSA), testSealKey(1))
	storeKey(t, store, StateActive, keys[2], testSealKey(1))
	k := mustOpen(t, testConfig(store, c, ""))

	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(k.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	modulus := josetest.RFC7515A2Key(t).N
	want := []map[string]string{
		{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": keys[0].jwk.X},
		{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": keys[1].jwk.X, "y": keys[1].jwk.Y},
		{"kty": "RSA", "alg": "RS256", "e": "AQAB", "n": encodeSegment(modulus.Bytes())},
	}
	for i, members := range want {
		members["use"], members["kid"] = "sig", keys[i].id
	}
	// The active key comes first.
	if len(set.Keys) != len(want) || set.Keys[0]["kid"] != keys[2].id {
		t.Fatalf("got %v", set.Keys)
	}
	set.Keys = append(set.Keys[1:], set.Keys[0])
	if !reflect.DeepEqual(set.Keys, want) {
		t.Errorf("got  %v\nwant %v", set.Keys, want)
	}
	if public, ok := keys[0].public.(ed25519.PublicKey); !ok || !slices.Equal(josetest.Base64(t, set.Keys[0]["x"]), public) {
		t.Error("x is not the Ed25519 key")
	}
	point := slices.Concat([]byte{4}, josetest.Base64(t, set.Keys[1]["x"]), josetest.Base64(t, set.Keys[1]["y"]))
	if public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil || !public.Equal(keys[1].public) {
		t.Errorf("x and y are not the P-256 key: %v", err)
	}

	// The order of the others is that of making, whatever order the store answers in.
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

// A signature made with a key of another type is an error, not a panic.
func TestES256RefusesOtherKeys(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []any{nil, testKey(t, accesstoken.EdDSA).private, p384} {
		if signature, err := signingMethod(accesstoken.ES256).Sign("x", private); err == nil || signature != nil {
			t.Errorf("%T: signed", private)
		}
	}
}

func TestGenerateRefusesUnknownAlgorithms(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []accesstoken.Algorithm{"", "none", "HS256", "eddsa"} {
		if private, err := generate(algorithm); private != nil || !errors.Is(err, accesstoken.ErrAlgorithm) {
			t.Errorf("%q: got %v", algorithm, err)
		}
	}
}
