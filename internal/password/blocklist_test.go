package password

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBlocklistFile(t *testing.T) {
	t.Parallel()
	body, ok := strings.CutSuffix(commonPasswords, "\n")
	if !ok {
		t.Fatal("the last line is not ended")
	}
	lines := strings.Split(body, "\n")
	if len(lines) < 10_000 {
		t.Errorf("%d passwords, want at least 10,000", len(lines))
	}
	for i, line := range lines {
		if n := utf8.RuneCountInString(line); n < DefaultMinLength || n > MaxLength {
			t.Errorf("line %d has %d code points", i+1, n)
		}
		if fold(line) != line || strings.TrimSpace(line) != line {
			t.Errorf("line %d, %q, is not folded", i+1, line)
		}
		if i > 0 && lines[i-1] >= line {
			t.Errorf("line %d, %q, is not after %q", i+1, line, lines[i-1])
		}
	}
}

// Every line is found, and nothing just before, after or within one.
func TestOnBlocklist(t *testing.T) {
	t.Parallel()
	listed := make(map[string]bool)
	for line := range strings.Lines(commonPasswords) {
		listed[strings.TrimSuffix(line, "\n")] = true
	}
	for password := range listed {
		if !onBlocklist(password) {
			t.Errorf("%q is not found", password)
		}
		for _, other := range []string{password + "\x00", password + "~", password[:len(password)-1], password[1:], " " + password, password + "\n"} {
			if onBlocklist(other) != listed[other] {
				t.Errorf("%q: found is %v", other, !listed[other])
			}
		}
	}
	for _, other := range []string{"", "\n", "\x00", "\U0010ffff", strings.Repeat("z", 200)} {
		if onBlocklist(other) {
			t.Errorf("%q is found", other)
		}
	}
}
