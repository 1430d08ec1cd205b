package password

import (
	"strings"
	"sync"
)

const (
	// walkBegin is the number of keys where people begin to walk over the keyboard. walkTurn is the factor for each
	// turn, except a turn that continues a zigzag: "1q2w3e4r5t" has one turn.
	walkBegin = 40
	walkTurn  = 3
	// walkAgain is the factor for the same steps from another key: "1qaz2wsx".
	walkAgain = 2
	// minWalk is the shortest walk that counts: every word has two neighbours.
	minWalk = 3
)

// keyboard has the place of each character of one layout, typed without and with shift.
type keyboard map[rune]place

// place is a row and a column. A key touches its neighbours in the row, the keys of its column and the next in the row
// above, and the keys of its column and the one before in the row below.
type place struct{ row, column int }

// layouts are those of most Latin keyboards.
//
//nolint:gochecknoglobals // made once and never changed
var layouts = sync.OnceValue(func() []keyboard {
	return []keyboard{
		layout("`1234567890-=", " qwertyuiop[]\\", " asdfghjkl;'", " zxcvbnm,./", "~!@#$%^&*()_+", "", "", ""),
		layout("^1234567890", " qwertzuiop", " asdfghjkl", "<yxcvbnm,.-", "°!\"§$%&/()=", "", "", ""),
		layout("²&\x00\"'(-\x00_\x00\x00)=", " azertyuiop", " qsdfghjklm", "<wxcvbn,;:!", " 1234567890", "", "", ""),
	}
})

func layout(rows ...string) keyboard {
	keys := keyboard{}
	for i, row := range rows {
		for column, r := range []rune(row) {
			if _, there := keys[r]; !there && !strings.ContainsRune(" \x00", r) {
				keys[r] = place{i % 4, column}
			}
		}
	}
	return keys
}

// addWalks adds walks from key to key, such as "qwert", "1qaz2wsx" and "zaq12wsx". A walk that turns at every key is no
// easier than other texts.
func (j *judged) addWalks() {
	for _, keys := range layouts() {
		for from := 0; from < len(j.text); {
			to := keys.walk(j.text, from)
			// The part next to a walk may need the walk's first or last key: "1qaz2wsx", "poiu123".
			for _, cut := range [][2]int{{from, to}, {from + 1, to}, {from, to - 1}} {
				j.addWalk(keys, cut[0], cut[1])
			}
			from = max(to-1, from+1)
		}
		j.addParallels(keys)
	}
}

func (j *judged) addWalk(keys keyboard, from, to int) {
	if to-from >= minWalk {
		j.add(from, to, keys.walkGuesses(j.text[from:to]))
	}
}

// addParallels adds walks whose steps are repeated from other keys: "qweasdzxc".
func (j *judged) addParallels(keys keyboard) {
	for from := range j.text {
		for length := minWalk; length <= maxParallel && from+2*length <= len(j.text); length++ {
			if keys.walk(j.text[:from+length], from) != from+length {
				break
			}
			to := from + length
			for to+length <= len(j.text) && keys.parallel(j.text[from:from+length], j.text[to:to+length]) {
				to += length
			}
			if to > from+length {
				j.add(from, to, keys.walkGuesses(j.text[from:from+length])*walkAgain*float64((to-from)/length))
			}
		}
	}
}

// maxParallel is the longest walk whose repetitions are looked for: half a row.
const maxParallel = 6

// walk follows neighbours in text from one position onwards.
func (k keyboard) walk(text []rune, from int) (to int) {
	for to = from + 1; to < len(text); to++ {
		if step, ok := k.step(text[to-1], text[to]); !ok || !step.touches() {
			break
		}
	}
	return to
}

// walkGuesses returns the guesses to a walk.
func (k keyboard) walkGuesses(walk []rune) float64 {
	guesses := float64(walkBegin * len(walk))
	var before, earlier place
	for i := 1; i < len(walk); i++ {
		step, _ := k.step(walk[i-1], walk[i])
		if i > 1 && step != before && step != earlier {
			guesses *= walkTurn
		}
		before, earlier = step, before
	}
	return guesses
}

// parallel reports whether b makes the steps of a.
func (k keyboard) parallel(a, b []rune) bool {
	for i := 1; i < len(a); i++ {
		one, _ := k.step(a[i-1], a[i])
		if other, ok := k.step(b[i-1], b[i]); !ok || one != other {
			return false
		}
	}
	return true
}

// step returns how to move from one key to another; ok is false if one of them is on no key.
func (k keyboard) step(from, to rune) (step place, ok bool) {
	a, first := k[from]
	b, second := k[to]
	return place{b.row - a.row, b.column - a.column}, first && second
}

// touches reports whether the step leads to a neighbour.
func (step place) touches() bool {
	switch step.row {
	case 0:
		return step.column == -1 || step.column == 1
	case 1:
		return step.column == 0 || step.column == -1
	case -1:
		return step.column == 0 || step.column == 1
	}
	return false
}
