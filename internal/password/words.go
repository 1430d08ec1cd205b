package password

import (
	"slices"
	"strings"
)

// longestWord bounds the search at one position, in code points: no listed word is longer.
const longestWord = 32

// maxSteps bounds the search for listed words in one password: "1" may also be i or l, and 128 of them are the
// beginning of over 20,000 words. Ordinary passwords take under a thousand steps.
const maxSteps = 20_000

// addWords adds the listed words and those of the context, with substitutions undone, forwards and backwards.
func (j *judged) addWords(context []string) {
	words := make([][]rune, len(context))
	for i, word := range context {
		words[i] = []rune(word)
	}
	backwards := slices.Clone(j.text)
	slices.Reverse(backwards)
	for _, text := range [][]rune{j.text, backwards} {
		reversed := &text[0] == &backwards[0]
		add := func(from, to int, guesses float64) {
			if reversed {
				from, to, guesses = len(text)-to, len(text)-from, guesses*changed
			}
			j.add(from, to, guesses)
		}
		search := wordSearch{list: listed(), text: text, steps: maxSteps / 2, found: add}
		for from := range text {
			search.from = from
			search.walk(from, search.list.all(), false)
			for _, word := range words {
				if spelled, altered := spells(text[from:], word); spelled {
					guesses := float64(contextGuesses)
					if altered {
						guesses *= changed
					}
					add(from, from+len(word), guesses)
				}
			}
		}
	}
}

// spells reports whether text begins with word, and whether that needed a substitution to be undone.
func spells(text, word []rune) (spelled, altered bool) {
	if len(text) < len(word) {
		return false, false
	}
	for i, want := range word {
		if text[i] == want {
			continue
		}
		if !strings.ContainsRune(lookAlikes(text[i]), want) {
			return false, false
		}
		altered = true
	}
	return true, altered
}

// wordSearch finds the listed words that begin at each of several positions.
type wordSearch struct {
	list  *wordList
	text  []rune
	steps int // that are still allowed
	from  int
	found func(from, to int, guesses float64)
}

// walk continues at a position with the words that begin with the text read so far.
func (s *wordSearch) walk(at int, in lineRange, altered bool) {
	if at-s.from >= 3 {
		if guesses, ok := s.list.word(in); ok {
			if altered {
				guesses *= changed
			}
			s.found(s.from, at, guesses)
		}
	}
	if at == len(s.text) || at-s.from == longestWord {
		return
	}
	r := s.text[at]
	s.try(at, in, string(r), altered)
	for _, letter := range lookAlikes(r) {
		s.try(at, in, string(letter), true)
	}
}

func (s *wordSearch) try(at int, in lineRange, spelled string, altered bool) {
	if s.steps -= len(spelled); s.steps < 0 {
		return
	}
	for i := range len(spelled) {
		in = s.list.narrow(in, spelled[i])
		if in.low == in.high {
			return
		}
	}
	s.walk(at+1, in, altered)
}
