package recoverycode_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/recoverycode"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}$`)
	seen := map[string]int{}
	letters := map[rune]int{}
	for range 1000 {
		codes := recoverycode.New()
		if len(codes) != recoverycode.Count {
			t.Fatalf("%d codes", len(codes))
		}
		for _, code := range codes {
			if !form.MatchString(code.Text()) {
				t.Errorf("%q", code.Text())
			}
			seen[code.Text()]++
			for _, r := range string(code) {
				letters[r]++
			}
			if got, err := recoverycode.Parse(code.Text()); got != code || err != nil {
				t.Errorf("%q is read as %q, %v", code.Text(), got, err)
			}
		}
	}
	if len(seen) != 10_000 { // two of ten thousand are equal once in 20 million runs
		t.Errorf("%d different codes", len(seen))
	}
	for r, n := range letters { // 3,125 of each are expected, with a deviation of 55
		if n < 2700 || n > 3550 {
			t.Errorf("%c occurs %d times", r, n)
		}
	}
	if len(letters) != 32 {
		t.Errorf("%d letters", len(letters))
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{
		"0123A-BCDEF", "0123a-bcdef", "0123abcdef", " 0123a bcdef ", "o123a-bcdef", "Oi23A-BCDEF", "0L23a‑bcdef", "0-1-2-3-a-b-c-d-e-f", "0123a–bcdef",
	} {
		if got, err := recoverycode.Parse(typed); got != "0123ABCDEF" || err != nil {
			t.Errorf("%q is read as %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{
		"", "0123a-bcde", "0123a-bcdef0", "0123u-bcdef", "0123a_bcdef", "0123a-bcdeé", "0123a-bcde\x00", "٠123a-bcdef", "ſ123a-bcdef",
		strings.Repeat(" ", 64) + "0123a-bcdef",
	} {
		if got, err := recoverycode.Parse(typed); !errors.Is(err, recoverycode.ErrForm) {
			t.Errorf("%q is read as %q, %v", typed, got, err)
		}
	}
}

// The hash depends on the code and on the key.
func TestHash(t *testing.T) {
	t.Parallel()
	key := recoverycode.NewKey()
	stored := recoverycode.Hash(key, "0123ABCDEF")
	if len(key) != 32 || len(stored) != 32 || !bytes.Equal(stored, recoverycode.Hash(key, "0123ABCDEF")) {
		t.Errorf("a key of %d bytes, a hash of %d", len(key), len(stored))
	}
	for name, other := range map[string][]byte{
		"another key": recoverycode.Hash(recoverycode.NewKey(), "0123ABCDEF"), "another code": recoverycode.Hash(key, "0123ABCDEG"),
	} {
		if bytes.Equal(other, stored) {
			t.Errorf("%s has the same hash", name)
		}
	}
}
