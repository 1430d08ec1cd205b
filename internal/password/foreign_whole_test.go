package password

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"
)

// If a password that matches a hash of any kind is hashed anew and replaces it, the owner's own password still matches.
// A password that bcrypt reads to its end, without a NUL, does replace the hash.
func TestRewriteKeepsTheOwnersPassword(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	var digests []digest
	for _, k := range kinds() {
		for _, prefix := range k.prefixes {
			if d, err := read(respell(prefix + exampleParams(prefix) + k.filler)); err == nil {
				digests = append(digests, d)
			}
		}
	}
	if len(digests) < 16 {
		t.Fatalf("%d kinds", len(digests))
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := rapid.SampledFrom(digests).Draw(rt, "kind")
		owner := drawTyped(rt)
		for _, program := range []string{owner, strings.Split(owner, "\x00")[0]} { // C ends the password there
			stored := rekeyed(t, d, program)
			if before, err := h.Verify(t.Context(), Claim{}, stored, owner); err != nil || !before.Match {
				continue // tested before
			}
			for _, typed := range alike(rt, owner) {
				result, err := h.Verify(t.Context(), Claim{}, stored, typed)
				if err != nil || result.Weaker && !result.Match {
					rt.Fatalf("%s: %+v, %v", stored, result, err)
				}
				plain := typed == owner && len(owner) < 72 && !strings.Contains(owner, "\x00") && d.accepts(owner)
				if _, own := d.(argon2Hash); plain && !result.Weaker && !own {
					rt.Fatalf("%s: %q is not written down: %+v", stored, typed, result)
				}
				if !result.Weaker {
					continue
				}
				rewritten, err := h.Hash(t.Context(), Claim{}, typed)
				if err != nil {
					rt.Fatal(err)
				}
				if again, err := h.Verify(t.Context(), Claim{}, rewritten, owner); err != nil || !again.Match {
					rt.Fatalf("%s: after %q was written down %q does not log in: %v", stored, typed, owner, err)
				}
			}
		}
	})
}

// drawTyped draws passwords about as long as one of the limits, with characters of one to four bytes, some of them not
// in NFC, some with a NUL. None ends with a NUL or repeats itself after one: some kinds cannot tell those from the text
// before the NUL.
func drawTyped(rt *rapid.T) string {
	unit := rapid.SampledFrom([]string{"a", "é", "e\u0301", "\u212b", "漢", "\U0001F600"}).Draw(rt, "unit")
	bytes := rapid.SampledFrom([]int{1, 8, 20, 32, 54, 64, 71, 72, 73, 80, 128, 130, 256}).Draw(rt, "bytes")
	typed := rapid.SampledFrom([]string{"", "x", "xyz", "nul\x00l"}).Draw(rt, "first") + strings.Repeat(unit, bytes/len(unit))
	typed += strings.Repeat("x", max(0, bytes-len(typed)))
	for utf8.RuneCountInString(typed) > MaxLength {
		_, size := utf8.DecodeLastRuneInString(typed)
		typed = typed[:len(typed)-size]
	}
	return typed
}

// alike returns the owner's password and passwords that some kind may take for it.
func alike(rt *rapid.T, owner string) []string {
	sum1, sum256, sum512 := sha1.Sum([]byte(owner)), sha256.Sum256([]byte(owner)), sha512.Sum512([]byte(owner))
	tail := rapid.StringMatching(`[a-z]{1,5}`).Draw(rt, "tail")
	all := []string{
		owner, owner + "\x00", owner + "\x00\x00", owner + "\x00" + owner, owner + "\x00" + tail, owner + tail,
		string(sum1[:]), string(sum256[:]), string(sum512[:]), strings.Split(owner, "\x00")[0],
	}
	if nfc, err := normalise(owner); err == nil {
		all = append(all, nfc, nfc+tail)
	}
	if len(owner) > 72 {
		all = append(all, owner[:72], owner[:72]+tail, owner[:71])
	}
	return all
}

// The length that counts is that of the form that matches, as typed or in NFC.
func TestBcryptReadsTheFormThatMatches(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	longer, shorter := strings.Repeat("\u0958", 20), strings.Repeat("e\u0301", 30) // 60 and 90 bytes, 120 and 60 in NFC
	for typed, want := range map[string]Result{longer: {Match: true}, shorter: {Match: true, Weaker: true}} {
		nfc, err := normalise(typed)
		if err != nil {
			t.Fatal(err)
		}
		made, err := bcrypt.GenerateFromPassword([]byte(nfc)[:min(len(nfc), 72)], 4)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Verify(t.Context(), Claim{}, string(made), typed); err != nil || got != want {
			t.Errorf("%+q: %+v, %v, want %+v", typed, got, err, want)
		}
	}
}

// x/crypto refuses to hash more than 72 bytes but compares them, as the comment of bcryptHash says.
func TestBcryptOfMoreThan72Bytes(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1})
	first := strings.Repeat("correct horse ", 6)[:72]
	made, err := bcrypt.GenerateFromPassword([]byte(first), 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bcrypt.GenerateFromPassword([]byte(first+"x"), 4); err == nil {
		t.Error("73 bytes are hashed")
	}
	for typed, want := range map[string]Result{
		first + "battery":        {Match: true},
		first + "wrong":          {Match: true},
		first:                    {Match: true}, // the owner's may be longer
		first[:71]:               {},
		"x" + first:              {},
		first[:71] + "\x00":      {},
		first[:70] + "e\u0301 x": {},
	} {
		if got, err := h.Verify(t.Context(), Claim{}, string(made), typed); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", typed, got, err, want)
		}
	}
	short, err := bcrypt.GenerateFromPassword([]byte(first[:71]), 4)
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]Result{
		first[:71]:                    {Match: true, Weaker: true},
		first[:71] + "\x00":           {Match: true},
		first[:71] + "\x00 and wrong": {Match: true},
		first:                         {},
	} {
		if got, err := h.Verify(t.Context(), Claim{}, string(short), typed); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", typed, got, err, want)
		}
	}
}
