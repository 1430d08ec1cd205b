package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func testKey(seed byte) []byte { return bytes.Repeat([]byte{seed}, minKeySize) }

// exampleBound and exampleKey are the input of the vectors below.
func exampleBound() bound {
	b := bound{
		id:     uuid.MustParse("01234567-89ab-4def-8123-456789abcdef"),
		user:   uuid.MustParse("fedcba98-7654-4321-8fed-cba987654321"),
		end:    1_802_592_000_000,
		ledger: 1<<40 + 42,
	}
	for i := range b.salt {
		b.salt[i] = byte(100 + i)
	}
	return b
}

func exampleKey(t testing.TB) macKey {
	t.Helper()
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	ring, err := newKeyring([][]byte{secret})
	if err != nil {
		t.Fatal(err)
	}
	return ring.current()
}

// Computed with Python's hmac and hashlib, HKDF written out after RFC 5869. These must never change: tokens live for
// weeks.
const (
	exampleToken   = "lkr_ASiE5EwBI0VniatN74EjRWeJq83vAAAAAAAAAAeAoMTI2qFFK6fThOVo-mEzd45uSM8FHrnlsGL3uJWBKQ"
	exampleRequest = "9bbc3a0fc9006ea3ffe04a8bef629637464e1d7f911d798bb2d0cc0d4a3f0bf5"
)

func TestTokenVector(t *testing.T) {
	t.Parallel()
	key, b := exampleKey(t), exampleBound()
	text, err := key.issue(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	if text != exampleToken {
		t.Errorf("token = %s, want %s", text, exampleToken)
	}
	hash, err := key.requestHash(b, 7, "request-1")
	if err != nil {
		t.Fatal(err)
	}
	if hash != exampleRequest {
		t.Errorf("request hash = %s, want %s", hash, exampleRequest)
	}
	parsed, err := parseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.session != b.id || parsed.generation != 7 || parsed.key != key.id {
		t.Errorf("parsed %+v", parsed)
	}
}

// Everything that a MAC vouches for changes it.
func TestMACCoversEverything(t *testing.T) {
	t.Parallel()
	key, other := exampleKey(t), macKey{secret: testKey(9)}
	macs := map[[macSize]byte]string{}
	add := func(name string, key macKey, generation uint64, change func(*bound)) {
		t.Helper()
		b := exampleBound()
		change(&b)
		mac, err := key.tokenMAC(b, generation)
		if err != nil {
			t.Fatal(err)
		}
		if twin, found := macs[mac]; found {
			t.Errorf("%s has the MAC of %s", name, twin)
		}
		macs[mac] = name
	}
	add("the original", key, 7, func(*bound) {})
	add("another key", other, 7, func(*bound) {})
	add("another generation", key, 8, func(*bound) {})
	add("another session", key, 7, func(b *bound) { b.id[15]++ })
	add("another user", key, 7, func(b *bound) { b.user[0]++ })
	add("another end", key, 7, func(b *bound) { b.end++ })
	add("another ledger position", key, 7, func(b *bound) { b.ledger++ })
	add("another salt", key, 7, func(b *bound) { b.salt[31]++ })
}

func TestParseTokenRefuses(t *testing.T) {
	t.Parallel()
	encode := func(change func([]byte) []byte) string {
		raw, err := tokenEncoding().DecodeString(strings.TrimPrefix(exampleToken, tokenPrefix))
		if err != nil {
			t.Fatal(err)
		}
		return tokenPrefix + tokenEncoding().EncodeToString(change(raw))
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
		"prefix only":            tokenPrefix,
		"no prefix":              strings.TrimPrefix(exampleToken, tokenPrefix),
		"prefix in capitals":     "LKR_" + strings.TrimPrefix(exampleToken, tokenPrefix),
		"prefix twice":           tokenPrefix + exampleToken,
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
		"generation 2^53":        generation(maxGeneration + 1),
		"generation 2^64-1":      generation(1<<64 - 1),
		"an access token's form": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
		"a megabyte":             tokenPrefix + strings.Repeat("A", 1<<20),
	}
	for name, text := range cases {
		if _, err := parseToken(text); !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	for length := range len(exampleToken) {
		if _, err := parseToken(exampleToken[:length]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d characters: %v, want ErrMalformed", length, err)
		}
	}
	for _, n := range []uint64{firstGeneration, maxGeneration} {
		if parsed, err := parseToken(generation(n)); err != nil || parsed.generation != n {
			t.Errorf("generation %d: %d, %v", n, parsed.generation, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(exampleToken)
	f.Add("")
	f.Add(tokenPrefix)
	f.Add(exampleToken[:50])
	f.Add(exampleToken + "\n")
	f.Add(exampleToken[:len(exampleToken)-1] + "\n")
	f.Add(exampleToken[:len(exampleToken)-1] + "R")
	f.Add(tokenPrefix + strings.Repeat("_", 82))
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseToken(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again := parsed.encode(); again != text {
			t.Fatalf("%q is a second spelling of %q", text, again)
		}
		if parsed.generation < firstGeneration || parsed.generation > maxGeneration {
			t.Fatalf("%q: generation %d", text, parsed.generation)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{
			Redis: newMiniredis(t), MACKeys: [][]byte{testKey(1)},
			IdleTTL: time.Hour, MaxTTL: time.Hour, Now: newClock().Now,
		}
	}
	cases := map[string]func(*Config){
		"no Redis":                 func(c *Config) { c.Redis = nil },
		"no key":                   func(c *Config) { c.MACKeys = nil },
		"a short key":              func(c *Config) { c.MACKeys = [][]byte{testKey(1)[1:]} },
		"a short previous key":     func(c *Config) { c.MACKeys = append(c.MACKeys, []byte("short")) },
		"no idle time":             func(c *Config) { c.IdleTTL = 0 },
		"less than a millisecond":  func(c *Config) { c.MaxTTL = time.Millisecond - 1 },
		"a negative life":          func(c *Config) { c.MaxTTL = -time.Hour },
		"more than 100 years":      func(c *Config) { c.IdleTTL = maxLife + 1 },
		"a negative grace":         func(c *Config) { c.Grace = -1 },
		"a negative limit":         func(c *Config) { c.Limit = -1 },
		"a short key after a good": func(c *Config) { c.MACKeys = [][]byte{testKey(1), {}} },
	}
	for name, change := range cases {
		cfg := good()
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := good()
	cfg.MACKeys = [][]byte{testKey(1), testKey(1), testKey(2)}
	cfg.Now = nil
	store, err := New(cfg)
	if err != nil {
		t.Fatalf("a key given twice and no clock: %v", err)
	}
	if len(store.keys) != 2 || store.now == nil {
		t.Errorf("%d keys, clock set: %v", len(store.keys), store.now != nil)
	}
	// The ring has its own copy: callers may wipe theirs.
	cfg.MACKeys[0][0] ^= 0xff
	if store.keys[0].secret[0] != 1 {
		t.Error("the ring shares memory with its caller")
	}
}
