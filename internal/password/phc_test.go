package password

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	goodSalt = "c29tZXNhbHRzb21lc2FsdA"                      // 16 bytes
	goodKey  = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // 32 bytes
)

// parse reads a stored Argon2id hash.
func parse(encoded string) (argon2Hash, error) {
	d, err := readStored(encoded)
	if err != nil {
		return argon2Hash{}, err
	}
	hash, ok := d.(argon2Hash)
	if !ok || hash.variant != "" {
		return argon2Hash{}, malformed("another kind")
	}
	return hash, nil
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	for params, ok := range map[string]bool{
		"m=8,t=1,p=1":            true,
		"m=7,t=1,p=1":            false, // below 8*p
		"m=512,t=1,p=64":         true,
		"m=511,t=1,p=64":         false,
		"m=520,t=1,p=65":         true, // lanes of a machine with more processors than ours
		"m=2040,t=1,p=255":       true,
		"m=2039,t=1,p=255":       false,
		"m=4096,t=1,p=256":       false,
		"m=262144,t=4,p=1":       true,
		"m=262144,t=5,p=1":       false, // product
		"m=262145,t=1,p=1":       false,
		"m=32768,t=32,p=1":       true,
		"m=8,t=32,p=1":           true,
		"m=8,t=33,p=1":           false,
		"m=8,t=0,p=1":            false,
		"m=8,t=1,p=0":            false,
		"m=0,t=1,p=1":            false,
		"m=4294967304,t=1,p=1":   false, // 8 when cut to 32 bits
		"m=8,t=4294967297,p=1":   false, // 1 when cut to 32 bits
		"m=8,t=1,p=257":          false, // 1 when cut to 8 bits
		"m=65536,t=65536,p=1":    false, // 0 when multiplied in 32 bits
		"m=08,t=1,p=1":           false,
		"m=+8,t=1,p=1":           false,
		"m=-8,t=1,p=1":           false,
		"m= 8,t=1,p=1":           false,
		"m=8 ,t=1,p=1":           false,
		"m=0x8,t=1,p=1":          false,
		"m=1_6,t=1,p=1":          false,
		"m=٨,t=1,p=1":            false,
		"m=,t=1,p=1":             false,
		"m=8,t=1":                false,
		"m=8,t=1,p=1,":           false,
		"m=8,,t=1,p=1":           false,
		"t=1,m=8,p=1":            false,
		"m=8,p=1,t=1":            false,
		"m=8,m=8,t=1,p=1":        false,
		"m=8,t=1,p=1,p=1":        false,
		"m=8,t=1,p=1,keyid=AA":   false,
		"m=8,t=1,p=1,data=AAAA":  false,
		"keyid=AA,m=8,t=1,p=1":   false,
		"M=8,t=1,p=1":            false,
		"m=8,t=1,p=1$c29tZXNhbA": false, // four parts
	} {
		_, err := parse(phcPrefix + params + "$" + goodSalt + "$" + goodKey)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%s: %v, want ok=%v", params, err, ok)
		}
	}
}

func TestParseSaltAndKey(t *testing.T) {
	t.Parallel()
	const params = phcPrefix + "m=64,t=1,p=1$"
	a := func(n int) string { return strings.Repeat("A", n) }
	for _, test := range []struct {
		name, salt, key string
		ok              bool
	}{
		{"as it should be", goodSalt, goodKey, true},
		{"salt of 7 bytes", a(10), goodKey, false},
		{"salt of 8 bytes", a(11), goodKey, true},
		{"salt of 64 bytes", a(86), goodKey, true},
		{"salt of 65 bytes", a(87), goodKey, false},
		{"key of 15 bytes", goodSalt, a(20), false},
		{"key of 16 bytes", goodSalt, a(22), true},
		{"key of 64 bytes", goodSalt, a(86), true},
		{"key of 65 bytes", goodSalt, a(87), false},
		{"no key", goodSalt, "", false},
		{"impossible length", a(13), goodKey, false},
		{"stray bits in the salt", a(10) + "B", goodKey, false},
		{"stray bits in the key", goodSalt, a(21) + "B", false},
		{"padding", goodSalt + "==", goodKey, false},
		{"padded key", goodSalt, goodKey + "=", false},
		{"line break in the salt", goodSalt[:4] + "\n" + goodSalt[4:], goodKey, false},
		{"line break at the end", goodSalt, goodKey + "\n", false},
		{"carriage return", goodSalt, goodKey[:7] + "\r" + goodKey[7:], false},
		{"space", goodSalt, goodKey + " ", false},
		{"URL alphabet", goodSalt, strings.Repeat("-_", 11), false},
		{"a fourth part", goodSalt, goodKey + "$", false},
		{"NUL", goodSalt, goodKey + "\x00", false},
	} {
		_, err := parse(params + test.salt + "$" + test.key)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%s: %v, want ok=%v", test.name, err, test.ok)
		}
	}
}

func TestParsePrefixAndLength(t *testing.T) {
	t.Parallel()
	const rest = "m=64,t=1,p=1$" + goodSalt + "$" + goodKey
	for _, encoded := range []string{
		"",
		"$",
		rest,
		"argon2id$v=19$" + rest,
		" " + phcPrefix + rest,
		"$argon2id$v=16$" + rest,
		"$argon2id$v=019$" + rest,
		"$argon2id$v=20$" + rest,
		"$argon2id$" + rest,
		"$argon2i$v=19$" + rest,
		"$argon2d$v=19$" + rest,
		"$Argon2id$v=19$" + rest,
		"$2b$10$abcdefghijklmnopqrstuvABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
	} {
		if _, err := parse(encoded); !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%.40q: %v", encoded, err)
		}
	}
	huge := phcPrefix + rest + strings.Repeat("A", 1<<20) // refused before any of it is looked at
	if _, err := parse(huge); !errors.Is(err, ErrMalformedHash) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a megabyte: %v", err)
	}
	longest := phcPrefix + "m=262144,t=4,p=64$" + strings.Repeat("A", 86) + "$" + strings.Repeat("A", 86)
	if _, err := parse(longest); err != nil {
		t.Errorf("the longest hash in bounds: %v", err)
	}
}

func TestParseErrorsShowNothing(t *testing.T) {
	t.Parallel()
	const secret = "U2VjcmV0"
	for _, encoded := range []string{
		phcPrefix + "m=64,t=1,p=1$" + secret + "$" + goodKey,
		phcPrefix + "m=64,t=1,p=1$" + goodSalt + "$" + secret,
		phcPrefix + "m=64,t=1,p=1$" + goodSalt + "$" + goodKey + "!" + secret,
		phcPrefix + "m=64,t=1,p=" + secret + "$" + goodSalt + "$" + goodKey,
		secret,
	} {
		_, err := parse(encoded)
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), goodKey[:8]) {
			t.Errorf("%s: %v", encoded, err)
		}
	}
}

func TestHashPrintsParametersOnly(t *testing.T) {
	t.Parallel()
	hash, err := parse(phcPrefix + "m=64,t=3,p=2$" + goodSalt + "$" + goodKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got, want := fmt.Sprintf(format, hash), phcPrefix+"m=64,t=3,p=2"; got != want {
			t.Errorf("%s prints %s, want %s", format, got, want)
		}
	}
}

func TestWeaker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		stored    Params
		salt, key int
		want      Params
		weaker    bool
	}{
		{"the same", Params{19456, 2, 1}, 16, 32, Params{19456, 2, 1}, false},
		{"stronger", Params{65536, 3, 2}, 16, 32, Params{19456, 2, 1}, false},
		{"fewer passes", Params{19456, 1, 1}, 16, 32, Params{19456, 2, 1}, true},
		{"less memory", Params{19455, 2, 1}, 16, 32, Params{19456, 2, 1}, true},
		{"less memory, more passes, less in all", Params{12288, 3, 1}, 16, 32, Params{19456, 2, 1}, true},
		{"less memory, more in all", Params{9728, 5, 1}, 16, 32, Params{19456, 2, 1}, false},
		{"less in all, more memory", Params{32768, 1, 1}, 16, 32, Params{19456, 2, 1}, false},
		{"lanes alone are nothing", Params{19456, 2, 4}, 16, 32, Params{19456, 2, 1}, false},
		{"same cost, short key", Params{19456, 2, 1}, 16, 31, Params{19456, 2, 1}, true},
		{"same cost, short salt", Params{19456, 2, 1}, 15, 32, Params{19456, 2, 1}, true},
		{"same cost, less memory, short key", Params{9728, 4, 1}, 16, 16, Params{19456, 2, 1}, true},
		{"same cost, more memory, short key", Params{38912, 1, 1}, 16, 16, Params{19456, 2, 1}, false},
		{"same cost, long salt and key", Params{19456, 2, 1}, 64, 64, Params{19456, 2, 1}, false},
		{"stronger, short salt and key", Params{65536, 3, 2}, 8, 16, Params{19456, 2, 1}, false},
		{"cheap, long key", Params{64, 1, 1}, 16, 64, Params{19456, 2, 1}, true},
	} {
		stored := argon2Hash{Params: test.stored, salt: make([]byte, test.salt), key: make([]byte, test.key)}
		if got := stored.weakerThan(test.want); got != test.weaker {
			t.Errorf("%s: %v, want %v", test.name, got, test.weaker)
		}
	}
}

// For all stored and wanted parameters, a rewrite never costs an attacker less, and a hash that was rewritten is not
// rewritten again.
func TestRewriteNeverWeakens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stored, want := drawHash(t), drawHash(t).Params
		if !stored.weakerThan(want) {
			return
		}
		rewritten := argon2Hash{Params: want, salt: make([]byte, newSaltLength), key: make([]byte, newKeyLength)}
		if want.cost() < stored.Params.cost() || want.MemoryKiB < stored.Params.MemoryKiB {
			t.Fatalf("%v rewritten with %v", stored, want)
		}
		if rewritten.weakerThan(want) {
			t.Fatalf("%v is rewritten for ever", rewritten)
		}
	})
}

func drawHash(t *rapid.T) argon2Hash {
	threads := rapid.Uint8Range(1, MaxThreads).Draw(t, "p")
	memory := rapid.Uint32Range(8*uint32(threads), MaxMemoryKiB).Draw(t, "m")
	passes := rapid.Uint32Range(1, min(MaxTime, MaxCost/memory)).Draw(t, "t")
	return argon2Hash{
		Params: Params{MemoryKiB: memory, Time: passes, Threads: threads},
		salt:   rapid.SliceOfN(rapid.Byte(), minSaltLength, maxSaltLength).Draw(t, "salt"),
		key:    rapid.SliceOfN(rapid.Byte(), minKeyLength, maxKeyLength).Draw(t, "key"),
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hash := drawHash(t)
		encoded := hash.encode()
		parsed, err := parse(encoded)
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if parsed.Params != hash.Params || string(parsed.salt) != string(hash.salt) || string(parsed.key) != string(hash.key) {
			t.Fatalf("%s comes back as %s", encoded, parsed.encode())
		}
	})
}

// One character that is added, removed or changed anywhere makes another hash or none, and never a second spelling of
// the same.
func TestParseAcceptsOneSpelling(t *testing.T) {
	t.Parallel()
	alphabet := []byte("0123456789ABCDxyz+/=-_$,mtpv \n\r\t\x00")
	rapid.Check(t, func(t *rapid.T) {
		encoded := []byte(drawHash(t).encode())
		at := rapid.IntRange(0, len(encoded)-1).Draw(t, "at")
		char := rapid.SampledFrom(alphabet).Draw(t, "char")
		switch rapid.SampledFrom([]string{"insert", "delete", "change"}).Draw(t, "edit") {
		case "insert":
			encoded = append(encoded[:at], append([]byte{char}, encoded[at:]...)...)
		case "delete":
			encoded = append(encoded[:at], encoded[at+1:]...)
		default:
			encoded[at] = char
		}
		checkCanonical(t, string(encoded))
	})
}

func checkCanonical(t interface{ Fatalf(string, ...any) }, text string) {
	hash, err := parse(text)
	switch {
	case err != nil:
		if !errors.Is(err, ErrMalformedHash) {
			t.Fatalf("%q: %v does not wrap ErrMalformedHash", text, err)
		}
	case hash.encode() != text:
		t.Fatalf("%q is accepted, canonical is %q", text, hash.encode())
	case hash.Params.validateStored() != nil:
		t.Fatalf("%q is accepted out of bounds", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range append(referenceVectors(), backendVectors()...) {
		f.Add(v.encoded)
		f.Add(v.encoded + "\n")
		f.Add(v.encoded[:len(v.encoded)-1])
	}
	f.Add(phcPrefix + "m=8,t=1,p=1,keyid=AA$" + goodSalt + "$" + goodKey)
	f.Add(phcPrefix + "m=08,t=+1,p=1$" + goodSalt + "$" + goodKey)
	f.Add(phcPrefix + "m=4294967304,t=1,p=257$" + goodSalt + "$" + goodKey)
	f.Fuzz(func(t *testing.T, text string) {
		checkCanonical(t, text)
	})
}
