package refreshtoken

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func testKey(seed byte) []byte { return bytes.Repeat([]byte{seed}, MinKeySize) }

// exampleBinding and exampleKey are the input of the vectors below.
func exampleBinding() Binding {
	b := Binding{
		SessionID: uuid.MustParse("01234567-89ab-4def-8123-456789abcdef"),
		UserID:    uuid.MustParse("fedcba98-7654-4321-8fed-cba987654321"),
		End:       1_802_592_000_000,
		Position:  1<<40 + 42,
	}
	for i := range b.Salt {
		b.Salt[i] = byte(100 + i)
	}
	return b
}

func exampleKey(t testing.TB) Key {
	t.Helper()
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	ring, err := NewKeys([][]byte{secret})
	if err != nil {
		t.Fatal(err)
	}
	return ring.Current()
}

// Computed with Python's hmac and hashlib, HKDF written out after RFC 5869. These must never change: tokens
// live for weeks.
const (
	exampleToken   = "lkr_ASiE5EwBI0VniatN74EjRWeJq83vAAAAAAAAAAeAoMTI2qFFK6fThOVo-mEzd45uSM8FHrnlsGL3uJWBKQ"
	exampleRequest = "9bbc3a0fc9006ea3ffe04a8bef629637464e1d7f911d798bb2d0cc0d4a3f0bf5"
)

func TestTokenVector(t *testing.T) {
	t.Parallel()
	key, b := exampleKey(t), exampleBinding()
	text, err := key.Issue(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	if text != exampleToken {
		t.Errorf("token = %s, want %s", text, exampleToken)
	}
	hash, err := key.RequestHash(b, 7, "request-1")
	if err != nil {
		t.Fatal(err)
	}
	if hash != exampleRequest {
		t.Errorf("request hash = %s, want %s", hash, exampleRequest)
	}
	parsed, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.SessionID != b.SessionID || parsed.Generation != 7 || parsed.KeyID != key.ID {
		t.Errorf("parsed %+v", parsed)
	}
}

// Everything that a MAC vouches for changes it.
func TestMACCoversEverything(t *testing.T) {
	t.Parallel()
	key, other := exampleKey(t), Key{secret: testKey(9)}
	macs := map[[macSize]byte]string{}
	add := func(name string, key Key, generation uint64, change func(*Binding)) {
		t.Helper()
		b := exampleBinding()
		change(&b)
		mac, err := key.MAC(b, generation)
		if err != nil {
			t.Fatal(err)
		}
		if twin, found := macs[mac]; found {
			t.Errorf("%s has the MAC of %s", name, twin)
		}
		macs[mac] = name
	}
	add("the original", key, 7, func(*Binding) {})
	add("another key", other, 7, func(*Binding) {})
	add("another generation", key, 8, func(*Binding) {})
	add("another session", key, 7, func(b *Binding) { b.SessionID[15]++ })
	add("another user", key, 7, func(b *Binding) { b.UserID[0]++ })
	add("another end", key, 7, func(b *Binding) { b.End++ })
	add("another ledger position", key, 7, func(b *Binding) { b.Position++ })
	add("another salt", key, 7, func(b *Binding) { b.Salt[31]++ })
}

func TestParseTokenRefuses(t *testing.T) {
	t.Parallel()
	encode := func(change func([]byte) []byte) string {
		raw, err := encoding().DecodeString(strings.TrimPrefix(exampleToken, Prefix))
		if err != nil {
			t.Fatal(err)
		}
		return Prefix + encoding().EncodeToString(change(raw))
	}
	generation := func(n uint64) string {
		return encode(func(raw []byte) []byte {
			binary.BigEndian.PutUint64(raw[21:], n)
			return raw
		})
	}
	last := exampleToken[:len(exampleToken)-1]
	cases := map[string]string{
		"empty":                  "",
		"prefix only":            Prefix,
		"no prefix":              strings.TrimPrefix(exampleToken, Prefix),
		"prefix in capitals":     "LKR_" + strings.TrimPrefix(exampleToken, Prefix),
		"prefix twice":           Prefix + exampleToken,
		"padded":                 exampleToken + "==",
		"space before":           " " + exampleToken,
		"space after":            exampleToken + " ",
		"line break after":       exampleToken + "\n",
		"line break for a byte":  last + "\n",
		"line breaks within":     exampleToken[:40] + "\r\n" + exampleToken[42:],
		"standard alphabet":      strings.ReplaceAll(strings.ReplaceAll(exampleToken, "-", "+"), "_", "/"),
		"NUL":                    last + "\x00",
		"not UTF-8":              last + "\xff",
		"loose bits at the end":  last + "R", // Q is 16: the last four bits of 17 would be dropped
		"version 0":              encode(func(raw []byte) []byte { raw[0] = 0; return raw }),
		"version 2":              encode(func(raw []byte) []byte { raw[0] = 2; return raw }),
		"a byte too many":        encode(func(raw []byte) []byte { return append(raw, 0) }),
		"a byte too few":         encode(func(raw []byte) []byte { return raw[:len(raw)-1] }),
		"generation 0":           generation(0),
		"generation 2^53":        generation(LastGeneration + 1),
		"generation 2^64-1":      generation(1<<64 - 1),
		"an access token's form": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
		"a megabyte":             Prefix + strings.Repeat("A", 1<<20),
	}
	for name, text := range cases {
		if _, err := Parse(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	for length := range len(exampleToken) {
		if _, err := Parse(exampleToken[:length]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d characters: %v, want ErrMalformed", length, err)
		}
	}
	for _, n := range []uint64{FirstGeneration, LastGeneration} {
		if parsed, err := Parse(generation(n)); err != nil || parsed.Generation != n {
			t.Errorf("generation %d: %d, %v", n, parsed.Generation, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(exampleToken)
	f.Add("")
	f.Add(Prefix)
	f.Add(exampleToken[:50])
	f.Add(exampleToken + "\n")
	f.Add(exampleToken[:len(exampleToken)-1] + "\n")
	f.Add(exampleToken[:len(exampleToken)-1] + "R")
	f.Add(Prefix + strings.Repeat("_", 82))
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again := parsed.Encode(); again != text {
			t.Fatalf("%q is a second spelling of %q", text, again)
		}
		if parsed.Generation < FirstGeneration || parsed.Generation > LastGeneration {
			t.Fatalf("%q: generation %d", text, parsed.Generation)
		}
	})
}

// Callers may wipe the secrets that they gave.
func TestKeysAreCopies(t *testing.T) {
	t.Parallel()
	secrets := [][]byte{testKey(1), testKey(1), testKey(2)}
	ring, err := NewKeys(secrets)
	if err != nil {
		t.Fatal(err)
	}
	if len(ring) != 2 {
		t.Errorf("%d keys, want 2: one was given twice", len(ring))
	}
	secrets[0][0] ^= 0xff
	if ring[0].secret[0] != 1 {
		t.Error("the keys share memory with their caller")
	}
}
