package refreshtoken

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
	exampleToken       = "lkr_ASiE5EwBI0VniatN74EjRWeJq83vAAAAAAAAAAeAoMTI2qFFK6fThOVo-mEzd45uSM8FHrnlsGL3uJWBKQ"
	exampleRequest     = "9bbc3a0fc9006ea3ffe04a8bef629637464e1d7f911d798bb2d0cc0d4a3f0bf5"
	exampleLong        = "lkr_AiiE5EwBI0VniatN74EjRWeJq83vAAAAAAAAAAf-3LqYdlRDIY_ty6mHZUMhAAABo7LbGAAAAAEAAAAAKvbhW1cuCewKW05LNbKtMt-rJ-mZKzzUY247kl09bPiRQQlSptUyNg8HkLZUz4bxx_A37Z0"
	exampleLongRequest = "2287011bfc5c7cbc6ce5c6d0d5f3cc9cdf2784aa33e5a4dc823ede1c30db872b"
)

func TestTokenVector(t *testing.T) {
	t.Parallel()
	key, b := exampleKey(t), exampleBinding()
	text, err := Maker{Key: key}.Issue(b, 7)
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
	if parsed.SessionID != b.SessionID || parsed.Generation != 7 || parsed.KeyID != key.ID || parsed.Carried != nil {
		t.Errorf("parsed %+v", parsed)
	}
}

func TestLongTokenVector(t *testing.T) {
	t.Parallel()
	key, b := exampleKey(t), exampleBinding()
	text, err := Maker{Key: key, Long: true}.Issue(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	if text != exampleLong {
		t.Errorf("token = %s, want %s", text, exampleLong)
	}
	if hash := key.LongRequestHash(b.SessionID, 7, "request-1"); hash != exampleLongRequest {
		t.Errorf("request hash = %s, want %s", hash, exampleLongRequest)
	}
	if hash := key.LongRequestHash(b.SessionID, 7, ""); hash != "" {
		t.Errorf("the hash of no request = %s", hash)
	}
	parsed, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Carried{UserID: b.UserID, End: b.End, Position: b.Position, Proof: b.Proof(7)}
	if parsed.SessionID != b.SessionID || parsed.Generation != 7 || parsed.KeyID != key.ID || *parsed.Carried != want {
		t.Errorf("parsed %+v", parsed)
	}
	if strings.Contains(text, encoding().EncodeToString(b.Salt[:])[:20]) {
		t.Error("the token holds the salt")
	}
}

// Every byte of a long token before the MAC changes the MAC, and so does the key.
func TestLongMACCoversEverything(t *testing.T) {
	t.Parallel()
	ring, err := NewKeys([][]byte{testKey(1), testKey(9)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := encoding().DecodeString(strings.TrimPrefix(exampleLong, Prefix))
	if err != nil {
		t.Fatal(err)
	}
	macs := map[[macSize]byte]string{}
	add := func(name string, key Key, text string) {
		t.Helper()
		parsed, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mac := key.LongMAC(parsed)
		if twin, found := macs[mac]; found {
			t.Errorf("%s has the MAC of %s", name, twin)
		}
		macs[mac] = name
	}
	add("the original", ring[0], exampleLong)
	add("another key", ring[1], exampleLong)
	for i := 1; i < longSize-macSize; i++ { // the first byte is the version
		if i == 1+keyIDSize+16 {
			continue // the first byte of a generation is 0
		}
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		add(fmt.Sprintf("byte %d", i), ring[0], Prefix+encoding().EncodeToString(changed))
	}
	exampleShort, err := Parse(exampleToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := macs[exampleShort.MAC]; found {
		t.Error("a short token has the MAC of a long one")
	}
}

// A proof shows one generation and one salt.
func TestProofs(t *testing.T) {
	t.Parallel()
	b := exampleBinding()
	other := b
	other.Salt[31]++
	proofs := map[[ProofSize]byte]bool{b.Proof(1): true, b.Proof(2): true, b.Proof(LastGeneration): true, other.Proof(1): true}
	if len(proofs) != 4 {
		t.Errorf("%d proofs, want 4", len(proofs))
	}
	if len(ProofLabel(1)) != len(ProofLabel(LastGeneration)) {
		t.Error("labels of two lengths: hashes could be extended")
	}
}

// The name of a maker names its key and its form.
func TestMakersByName(t *testing.T) {
	t.Parallel()
	ring, err := NewKeys([][]byte{testKey(1), testKey(2)})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Maker{{ring[0], false}, {ring[0], true}, {ring[1], false}, {ring[1], true}} {
		if got := ring.Named(want.Name()); got.Key.ID != want.Key.ID || got.Long != want.Long {
			t.Errorf("%s: %v, long: %v", want.Name(), got.Key.ID, got.Long)
		}
	}
	for name, long := range map[string]bool{"": false, "00000000": false, "00000000.2": true} {
		if got := ring.Named(name); got.Key.ID != ring.Current().ID || got.Long != long {
			t.Errorf("%q: %v, long: %v", name, got.Key.ID, got.Long)
		}
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
		"version 2, short":       encode(func(raw []byte) []byte { raw[0] = 2; return raw }),
		"version 1, long":        Prefix + "A" + "S" + exampleLong[len(Prefix)+2:],
		"version 3, long":        Prefix + "A" + "y" + exampleLong[len(Prefix)+2:],
		"long, padded":           exampleLong + "=",
		"long, loose bits":       exampleLong[:len(exampleLong)-1] + "1", // 0 is 52: the last two bits of 53 would be dropped
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
	for _, whole := range []string{exampleToken, exampleLong} {
		for length := range len(whole) {
			if _, err := Parse(whole[:length]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d characters cut to %d: %v, want ErrMalformed", len(whole), length, err)
			}
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
	f.Add(exampleLong)
	f.Add(exampleLong[:len(exampleToken)])
	f.Add(exampleLong[:len(exampleLong)-1] + "1")
	f.Add(Prefix + strings.Repeat("A", 151))
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
		if long := len(text) == len(exampleLong); long != (parsed.Carried != nil) {
			t.Fatalf("%q: carries %v", text, parsed.Carried)
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
