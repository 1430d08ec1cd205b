package password

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// DefaultMinLength is from NIST SP 800-63B-4, section 3.1.1.2: 8 if the password is one of two factors. It requires
	// 15 if the password is the only one.
	DefaultMinLength = 8

	// minContextWord is the shortest context word that counts: "li" is in too many good passwords.
	minContextWord = 3
	// minOwn is how many code points must be left of a password without the context words: "Nora1990" takes three
	// guesses for somebody who knows Nora.
	minOwn = 4
)

var (
	// ErrTooShort is returned for a password below Policy.MinLength.
	ErrTooShort = errors.New("password is too short")
	// ErrTooCommon is returned for a password that is among the first guesses: it is on the list of common ones,
	// consists of such words and patterns, or is little more than the context.
	ErrTooCommon = errors.New("password is too easy to guess")
	// ErrBreached is returned for a password that Policy.Breached knows.
	ErrBreached = errors.New("password was in a leak of another service")
)

// Policy decides which new passwords are accepted. It has no rules of composition (NIST SP 800-63B-4, section 3.1.1.2).
// The zero value is usable.
type Policy struct {
	// MinLength is in code points after NFC normalisation. Zero means DefaultMinLength.
	MinLength int
	// Service has the names of the service: its product's name, its hosts. An attacker tries those with every account.
	Service []string
	// Breached returns whether a password was in a leak. It gets the password after NFC normalisation, and also as it was
	// typed if that differs. Optional.
	Breached func(password string) (bool, error)
}

// Check returns nil, or ErrTooLong, ErrTooShort, ErrTooCommon or ErrBreached, wrapped with advice for choosing another
// password, or the error of p.Breached: then the password must not be accepted.
// Context is what an attacker who knows the account tries first: the address, its local part, names. Each of them
// counts as a whole and also split at everything but letters and digits, in any case; so do the words of p.Service.
// Check takes less than a millisecond for any input, without p.Breached.
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
	folded, words := fold(nfc), contextWords(append(slices.Clone(context), p.Service...))
	switch {
	case ownLength(folded, words) < minOwn:
		return fmt.Errorf("%w: it is little more than your name, your address or the name of this service", ErrTooCommon)
	case guesses(folded, words) < minGuesses:
		return fmt.Errorf("%w: it is a common password or word, or a pattern, but for digits, years, marks and substitutions", ErrTooCommon)
	}
	return p.checkBreached(nfc, password)
}

// checkBreached asks for both forms if they differ: a leak has what people typed.
func (p Policy) checkBreached(forms ...string) error {
	if p.Breached == nil {
		return nil
	}
	for _, form := range slices.Compact(forms) {
		switch breached, err := p.Breached(form); {
		case err != nil:
			return err
		case breached:
			return fmt.Errorf("%w: whoever has that list tries it first", ErrBreached)
		}
	}
	return nil
}

// contextWords folds and splits, also between letters and digits: "nora1990" is a word, and so is "nora". Marks belong
// to the letter before them.
func contextWords(context []string) []string {
	notInWord := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }
	notInName := func(r rune) bool { return notInWord(r) || unicode.IsDigit(r) }
	var words []string
	for _, text := range context {
		folded := fold(text)
		candidates := slices.Concat(strings.FieldsFunc(folded, notInWord), strings.FieldsFunc(folded, notInName), []string{folded})
		for _, word := range candidates {
			if utf8.RuneCountInString(word) >= minContextWord && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

// ownLength counts the code points of s that no occurrence of any word covers. It covers words and does not cut them
// out: so the order of the words does not matter, and no new occurrence appears where two remnants meet.
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
