package password

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestPolicyLength(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		policy   Policy
		password string
		want     error
	}{
		{"empty", Policy{}, "", ErrTooShort},
		{"7", Policy{}, "kV9#xq2", ErrTooShort},
		{"8", Policy{}, "kV9#xq2z", nil},
		{"8 of 15", Policy{MinLength: 15}, "kV9#xq2z", ErrTooShort},
		{"15 of 15", Policy{MinLength: 15}, "kV9#xq2zkV9#xq2", nil},
		{"8 code points, 7 in NFC", Policy{}, "kV9#xqe\u0301", ErrTooShort},
		{"8 in NFC", Policy{}, "kV9#xq2e\u0301", nil},
		{"8 of many bytes", Policy{}, "пароль42", nil},
		{"7 of many bytes", Policy{}, "密码密码密码密", ErrTooShort},
		{"128", Policy{}, strings.Repeat("kV9#xq2z", 16), nil},
		{"129", Policy{}, strings.Repeat("kV9#xq2z", 16) + "x", ErrTooLong},
		{"256 code points, 128 in NFC", Policy{}, strings.Repeat("ae\u0301iu\u0308", 25) + "e\u0301zz", nil},
		{"128 code points, 384 in NFC", Policy{}, strings.Repeat("\U0001d160", 128), ErrTooLong},
		{"huge", Policy{}, strings.Repeat("x", 1<<20), ErrTooLong},
		{"blanks count", Policy{}, "a b c d e f", nil},
	} {
		if err := test.policy.Check(test.password); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// A refusal for length alone says which length would be enough.
func TestTooShortSaysHowLong(t *testing.T) {
	t.Parallel()
	if err := (Policy{MinLength: 15}).Check("kV9#xq2z"); err == nil || !strings.Contains(err.Error(), "at least 15") {
		t.Errorf("%v", err)
	}
}

func TestPolicyCommon(t *testing.T) {
	t.Parallel()
	for password, common := range map[string]bool{
		"password":             true,
		"PassWord":             true,
		"1qaz2wsx":             true,
		"iloveyou":             true,
		"trustno1":             true,
		"Superman":             true,
		"\uff30assword":        true,  // full-width P: P in NFKC
		"\u212aorvette":        false, // Kelvin sign: k in NFC
		"bas\u212aetball":      true,
		"aaaaaaaa":             true,
		"AAAAaaaaAAAA":         true,
		"ééééééééé":            true,
		"e\u0301éééééééé":      true,
		"🙂🙂🙂🙂🙂🙂🙂🙂":             true,
		"abcdefgh":             true,
		"AbCdEfGhIj":           true,
		"hgfedcba":             true,
		"34567890":             true,
		"0987654321":           true,
		"56789012345678":       true,
		"абвгдежз":             true,
		"aaaaaaab":             true, // a sequence and one guess more
		"abcdefgi":             true,
		"acegikmo":             false,
		"abcdefgh ijk":         true,
		"correct horse":        false,
		"purple-elephant-tuba": false,
		"kV9#xq2z":             false,
	} {
		if err := (Policy{}).Check(password); errors.Is(err, ErrTooCommon) != common || !common && err != nil {
			t.Errorf("%s: %v, want common=%v", password, err, common)
		}
	}
}

func TestPolicyContext(t *testing.T) {
	t.Parallel()
	context := []string{"Nora.Stone+news@Example.com", "Nora.Stone+news", "Noëlle", "O'Neil", "सुनीता शर्मा", "Li", "latchkey", ""}
	for password, common := range map[string]bool{
		"nora.stone+news@example.com": true, // the whole address
		"NoraStone":                   true,
		"Nora1990":                    true, // four left, but a year
		"Nora-kV9#x":                  false,
		"NoraNora-19":                 true,
		"NoraNora-199":                true,
		"NoraNora-kV9":                true, // three left
		"norastone123":                true,
		"123norastone":                true,
		"1nora2stone3":                true,
		"Nora Stone 1":                true,
		"latchkey":                    true,
		"Latchkey123":                 true,
		"latchkey1234":                true,
		"latchkeylatchkey":            true,
		"noranoranora":                true,
		"Noe\u0308lle99":              true, // composed differently than in the context
		"NOËLLE99":                    true,
		"neilneil":                    true,
		"o'neil12":                    true,
		"सुनीता12":                    true, // vowel signs are marks
		"liliLILI1":                   true, // two letters are too short to count, but they are repeated
		"liliana-kV9":                 false,
		"nostranorm":                  false,
		"kV9#xq2z":                    false,
	} {
		if err := (Policy{}).Check(password, context...); errors.Is(err, ErrTooCommon) != common || !common && err != nil {
			t.Errorf("%s: %v, want common=%v", password, err, common)
		}
	}
}

// Occurrences may overlap, and the removal of one never makes another.
func TestOwnLength(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		s     string
		words []string
		want  int
	}{
		{"noralee", []string{"nora", "ralee"}, 0},
		{"noralee", []string{"ralee", "nora"}, 0},
		{"ananas", []string{"ana"}, 1},
		{"stostonene", []string{"stone"}, 5},
		{"aéb", []string{"é"}, 2},
		{"éé", nil, 2},
		{"", []string{"ana"}, 0},
		{"ana", []string{""}, 3},
	} {
		if got := ownLength(test.s, test.words); got != test.want {
			t.Errorf("%q without %q: %d, want %d", test.s, test.words, got, test.want)
		}
	}
}

// Check answers for any text, and an accepted password can be hashed and meets the limits.
func TestPolicyProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.String().Draw(t, "password") + rapid.StringN(0, 140, -1).Draw(t, "more")
		context := rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "context")
		err := (Policy{}).Check(password, context...)
		nfc := norm.NFC.String(password)
		length := utf8.RuneCountInString(nfc)
		switch {
		case length > MaxLength:
			if !errors.Is(err, ErrTooLong) {
				t.Fatalf("%d code points: %v", length, err)
			}
		case length < DefaultMinLength:
			if !errors.Is(err, ErrTooShort) {
				t.Fatalf("%d code points: %v", length, err)
			}
		case err != nil && !errors.Is(err, ErrTooCommon):
			t.Fatal(err)
		}
		if again := (Policy{}).Check(nfc, context...); (err == nil) != (again == nil) {
			t.Fatalf("typed: %v, in NFC: %v", err, again)
		}
		if err := (Policy{}).Check(password, append(context, password)...); err == nil {
			t.Fatal("a password that is its own context is accepted")
		}
	})
}

// maxTypedBytes must never refuse a password that fits in NFC. That depends on the fact that no code point decomposes
// into more than four, so the test reads the tables.
func TestTypedBytesBound(t *testing.T) {
	t.Parallel()
	most := 0
	for r := range utf8.MaxRune + 1 {
		most = max(most, utf8.RuneCountInString(norm.NFD.String(string(r))))
	}
	if most != 4 {
		t.Errorf("a code point decomposes into %d", most)
	}
	longest := strings.Repeat("\u2126\u0313\u0300\u0345", MaxLength) // U+1FAA each
	if nfc, err := normalise(longest); err != nil || utf8.RuneCountInString(nfc) != MaxLength {
		t.Errorf("%d bytes for %d code points: %v", len(longest), utf8.RuneCountInString(nfc), err)
	}
}
