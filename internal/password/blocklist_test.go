package password

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// The binary has the list that people read.
func TestWordsAreThoseOfTheText(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("blocklist/words.txt")
	if err != nil || string(text) != commonWords() {
		t.Errorf("words.txt.gz is another list than words.txt: make it again as blocklist/README.md says (%v)", err)
	}
}

func listedWords(t *testing.T) []string {
	t.Helper()
	body, ok := strings.CutSuffix(commonWords(), "\n")
	if !ok {
		t.Fatal("the last line is not ended")
	}
	return strings.Split(body, "\n")
}

func TestBlocklistFile(t *testing.T) {
	t.Parallel()
	lines := listedWords(t)
	if len(lines) < 10_000 {
		t.Errorf("%d words, want at least 10,000", len(lines))
	}
	before, long := "", 0
	for i, line := range lines {
		word, class, ok := strings.Cut(line, "\t")
		if !ok || len(class) != 1 || class[0] < 'a' || class[0] > 'p' {
			t.Errorf("line %d, %q, has the class %q", i+1, word, class)
		}
		if n := utf8.RuneCountInString(word); n < 3 || n > longestWord {
			t.Errorf("line %d has %d code points", i+1, n)
		}
		if fold(word) != word || strings.ContainsAny(word, "\t\r") {
			t.Errorf("line %d, %q, is not folded", i+1, word)
		}
		if before >= word {
			t.Errorf("line %d, %q, is not after %q", i+1, word, before)
		}
		before = word
		if len(word) >= DefaultMinLength {
			long++
		}
	}
	if long < 10_000 {
		t.Errorf("%d passwords of %d characters and more, want at least 10,000", long, DefaultMinLength)
	}
}

// Every line is found, and nothing just before, after or within one.
func TestListed(t *testing.T) {
	t.Parallel()
	find := func(word string) bool {
		in := listed().all()
		for i := range len(word) {
			if in = listed().narrow(in, word[i]); in.low == in.high {
				return false
			}
		}
		_, ok := listed().word(in)
		return ok
	}
	known := make(map[string]bool)
	for word := range Words() {
		known[word] = true
	}
	for word := range known {
		for _, other := range []string{word, word + "\x00", word + "~", word[:len(word)-1], word[1:], " " + word, word + "\n"} {
			if find(other) != known[other] {
				t.Errorf("%q: found is %v", other, !known[other])
			}
		}
	}
	for _, other := range []string{"", "\n", "\x00", "\U0010ffff", strings.Repeat("z", 200)} {
		if find(other) {
			t.Errorf("%q is found", other)
		}
	}
}

// Every listed word that is long enough is refused, with and without common additions.
func TestListedAreRefused(t *testing.T) {
	t.Parallel()
	for word := range Words() {
		for _, password := range []string{word, strings.ToUpper(word) + "1"} {
			if utf8.RuneCountInString(password) < DefaultMinLength {
				continue
			}
			if (Policy{}).Check(password) == nil {
				t.Errorf("%q is accepted", password)
			}
		}
	}
}
