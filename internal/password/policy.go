package password

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// DefaultMinLength is from NIST SP 800-63B-4, section 3.1.1.2: 8 where a
	// password is one of two factors. It asks for 15 where it is the only one.
	DefaultMinLength = 8

	// minContextWord is the shortest context word that counts: "li" is in too many
	// good passwords.
	minContextWord = 3
	// minOwn is how many code points must be left of a password without the
	// context words: "Nora1990" is three guesses for whoever knows Nora.
	minOwn = 4
)

var (
	// ErrTooShort is returned for a password below Policy.MinLength.
	ErrTooShort = errors.New("password is too short")
	// ErrTooCommon is returned for a password that is among the first guesses: on
	// the list of common ones, a plain sequence, or little more than the context.
	ErrTooCommon = errors.New("password is too easy to guess")
)

// Policy decides which new passwords are accepted. There are no rules of
// composition (NIST SP 800-63B-4, section 3.1.1.2). The zero value is usable.
type Policy struct {
	// MinLength is in code points after NFC normalisation. Zero means
	// DefaultMinLength.
	MinLength int
}

// Check returns ErrTooLong, ErrTooShort or ErrTooCommon, wrapped with what helps
// to choose another, or nil. Context is what an attacker who knows the account
// tries first: the address, its local part, names, the name of the service. Each
// counts whole and split at everything but letters and digits, in any case.
func (p Policy) Check(password string, context ...string) error {
	nfc, err := normalise(password)
	if err != nil {
		return err
	}
	minLength := p.MinLength
	if minLength <= 0 {
		minLength = DefaultMinLength
	}
	if utf8.RuneCountInString(nfc) < minLength {
		return fmt.Errorf("%w: use at least %d characters", ErrTooShort, minLength)
	}
	folded := fold(nfc)
	switch {
	case onBlocklist(folded):
		return fmt.Errorf("%w: it is on the list of common passwords", ErrTooCommon)
	case isSequence(folded):
		return fmt.Errorf("%w: it is a plain sequence of characters", ErrTooCommon)
	case ownLength(folded, contextWords(context)) < minOwn:
		return fmt.Errorf("%w: it is little more than your name, your address or the name of this service", ErrTooCommon)
	}
	return nil
}

// fold makes texts comparable: lower case, and NFC again since lower-casing may
// leave it.
func fold(s string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(s)))
}

// isSequence reports whether every code point differs from the one before by
// the same step of 0, 1 or -1: "aaaaaaaa", "abcdefgh", "87654321". Digits go
// round, so that "7890123456" is one too.
func isSequence(s string) bool {
	runes := []rune(s)
	for step := rune(-1); step <= 1; step++ {
		follows := func(i int) bool { return next(runes[i-1], step) == runes[i] }
		i := 1
		for i < len(runes) && follows(i) {
			i++
		}
		if i == len(runes) {
			return true
		}
	}
	return false
}

func next(r, step rune) rune {
	if r >= '0' && r <= '9' {
		return '0' + (r-'0'+step+10)%10
	}
	return r + step
}

// contextWords folds and splits. Marks belong to the letter before them.
func contextWords(context []string) []string {
	var words []string
	for _, text := range context {
		folded := fold(text)
		parts := strings.FieldsFunc(folded, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
		})
		for _, word := range append(parts, folded) {
			if utf8.RuneCountInString(word) >= minContextWord && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

// ownLength counts the code points of s that no occurrence of any word covers.
// Covering instead of cutting makes the order of the words irrelevant and lets
// no new occurrence arise where two remnants meet.
func ownLength(s string, words []string) int {
	covered := make([]bool, len(s))
	for _, word := range words {
		for from := 0; from < len(s); {
			i := strings.Index(s[from:], word)
			if i < 0 {
				break
			}
			start := from + i
			for j := range word {
				covered[start+j] = true
			}
			_, width := utf8.DecodeRuneInString(s[start:])
			from = start + width // the next may overlap this one
		}
	}
	own := 0
	for i := range s {
		if !covered[i] {
			own++
		}
	}
	return own
}
