package password

import (
	"math"
	"unicode"
	"unicode/utf8"
)

// minGuesses is how many guesses a new password must withstand if they are made in the order of cracking programs:
// first the words that people choose, with digits, years and marks around them. zxcvbn's score 2 begins at 10^6
// (Wheeler, USENIX Security 2016): that is enough if guesses are counted, as they are here.
const minGuesses = 1e6

// maxJudged is how many code points of a folded password are examined, so that the work is bounded: NFKC makes up to 18
// of one. More code points could only add guesses.
const maxJudged = MaxLength

// The guesses that parts of a password take. Additions that everybody makes get small numbers: a capital costs nothing,
// a year 20 and "!" 4.
const (
	contextGuesses   = 3   // a word of the account or the service
	yearGuesses      = 20  // 1900 to 2099; all cost the same, so that no window becomes outdated
	innerYear        = 100 // the same among other digits
	dayGuesses       = 365
	shortYears       = 40 // of two digits: "Sommer26", and in dates
	changed          = 2  // with substitutions, or backwards
	digitGuesses     = 10
	letterGuesses    = 26
	endGuesses       = 4 // "1" and "!" where people put them: at the end, before a mark
	plainMarkGuesses = 6
	markGuesses      = 16
	anyOtherGuesses  = 1000 // Han, Hangul, emoji: thousands each
)

// part is a stretch of the password that an attacker guesses as one choice.
type part struct {
	end     int
	guesses float64
}

// judged is one password that is being examined. The parts that begin at i are parts[i].
type judged struct {
	text  []rune
	parts [][]part
}

// Guesses estimates how many guesses an attacker needs for a text that a person made up, in the order of
// cracking programs: at least 1. It looks at the first 128 code points.
func Guesses(text string) float64 { return guesses(fold(text), nil) }

// guesses estimates the number of guesses to a folded password for somebody who knows the context: the lowest product
// over all ways to compose it from parts.
func guesses(folded string, context []string) float64 {
	j := judge([]rune(folded), context)
	return j.least(0, len(j.text))
}

// judge finds the parts of a folded password.
func judge(text []rune, context []string) *judged {
	if len(text) > maxJudged {
		text = text[:maxJudged]
	}
	j := &judged{text, make([][]part, len(text))}
	j.addWords(context)
	j.addRuns()
	j.addDoubled()
	j.addWalks()
	j.addDates()
	j.addSingles()
	j.addRepeats()
	return j
}

func (j *judged) add(from, to int, guesses float64) {
	j.parts[from] = append(j.parts[from], part{to, guesses})
}

// least returns the fewest guesses to the text from one position up to another.
func (j *judged) least(from, to int) float64 {
	best := make([]float64, to-from+1)
	for i := range best {
		best[i] = math.Inf(1)
	}
	best[0] = 1
	for i := from; i < to; i++ {
		for _, p := range j.parts[i] {
			if p.end <= to {
				best[p.end-from] = min(best[p.end-from], best[i-from]*p.guesses)
			}
		}
	}
	return best[to-from]
}

// addSingles makes every code point a part of its own.
func (j *judged) addSingles() {
	for i, r := range j.text {
		guesses := single(r)
		if last := i+1 == len(j.text); r == '1' && (last || single(j.text[i+1]) < digitGuesses) || r == '!' {
			guesses = endGuesses
		}
		j.add(i, i+1, guesses)
	}
}

// single returns the guesses to one code point.
func single(r rune) float64 {
	switch {
	case r >= '0' && r <= '9':
		return digitGuesses
	case r == '!' || r == ' ' || r == '.' || r == '-' || r == '_' || r == '@' || r == '#' || r == '*' || r == '?' || r == '$' || r == '/':
		return plainMarkGuesses
	case r < utf8.RuneSelf && !unicode.IsLetter(r):
		return markGuesses
	case unicode.IsLetter(r) && r < '\u2e80':
		return letterGuesses
	}
	return anyOtherGuesses
}

// addRuns adds stretches of three and more code points that rise or fall by one, such as "abcd" and "4321", or stay the
// same.
func (j *judged) addRuns() {
	for step := rune(-1); step <= 1; step++ {
		for from := 0; from < len(j.text); {
			to := from + 1
			for to < len(j.text) && next(j.text[to-1], step) == j.text[to] {
				to++
			}
			j.addRun(from, to, step)
			from = max(to-1, from+1) // the last of one run may be the first of another
		}
	}
}

func (j *judged) addRun(from, to int, step rune) {
	begin := single(j.text[from])
	if r := j.text[from]; step != 0 && (r == 'a' || r == 'z' || r <= '9' && r >= '0') {
		begin = 4
	}
	if step < 0 {
		begin *= changed
	}
	// The part next to a run may need the run's first or last code point: "1232026".
	for _, cut := range [][2]int{{from, to}, {from + 1, to}, {from, to - 1}} {
		if n := cut[1] - cut[0]; n >= 3 {
			j.add(cut[0], cut[1], begin*float64(n))
		}
	}
}

// next continues from 9 to 0 for digits, so that "7890123" is a run too.
func next(r, step rune) rune {
	if r >= '0' && r <= '9' {
		return '0' + (r-'0'+step+10)%10
	}
	return r + step
}

// addDoubled adds stretches of three and more code points that are typed twice each, such as "qqww11".
func (j *judged) addDoubled() {
	for from := range j.text {
		guesses, to := float64(changed), from
		for to+1 < len(j.text) && j.text[to] == j.text[to+1] {
			guesses *= single(j.text[to])
			to += 2
			if to-from >= 6 {
				j.add(from, to, guesses)
			}
		}
	}
}

// addRepeats adds stretches that repeat the same two or more code points, such as "testtest": an attacker guesses the
// first copy, and the number of copies.
func (j *judged) addRepeats() {
	text := j.text
	for from := range text {
		for length := 2; from+2*length <= len(text); length++ {
			to := from + length
			for to < len(text) && text[to] == text[to-length] {
				to++
			}
			times := (to - from) / length
			if times < 2 {
				continue
			}
			end := from + times*length
			j.add(from, end, j.least(from, from+length)*float64(times))
			break
		}
	}
}

// addDates adds years of four digits and dates: 1987, 15031987, 150387, 15.3.1987.
func (j *judged) addDates() {
	for from := range j.text {
		if j.year(from) {
			if j.digitAt(from-1) || j.digitAt(from+4) {
				j.add(from, from+4, innerYear)
			} else {
				j.add(from, from+4, yearGuesses)
			}
			for _, separated := range []bool{false, true} {
				if mid, ok := j.dayOrMonth(from+4, separated); ok {
					if to, ok := j.dayOrMonth(mid, separated); ok {
						j.add(from, to, dayGuesses*yearGuesses)
					}
				}
			}
		}
		if j.pair(from) {
			j.add(from, from+2, shortYears)
		}
		for _, separated := range []bool{false, true} {
			j.addDateFrom(from, separated)
		}
	}
}

// pair reports whether exactly two digits are at from.
func (j *judged) pair(from int) bool {
	return !j.digitAt(from-1) && j.digitAt(from) && j.digitAt(from+1) && !j.digitAt(from+2)
}

func (j *judged) digitAt(i int) bool { return i >= 0 && i < len(j.text) && isDigit(j.text[i]) }

// addDateFrom adds the date that begins with a day or month at from.
func (j *judged) addDateFrom(from int, separated bool) {
	first, ok := j.number(from, separated)
	if !ok {
		return
	}
	second, ok := j.dayOrMonth(first, separated)
	if !ok {
		return
	}
	if separated {
		if second >= len(j.text) || !isSeparator(j.text[second]) {
			return
		}
		second++
	}
	if j.year(second) {
		j.add(from, second+4, dayGuesses*yearGuesses)
	}
	if second+2 <= len(j.text) && isDigit(j.text[second]) && isDigit(j.text[second+1]) {
		j.add(from, second+2, dayGuesses*shortYears)
	}
}

// dayOrMonth reads a separator, if there must be one, and a number up to 31.
func (j *judged) dayOrMonth(from int, separated bool) (to int, ok bool) {
	if separated {
		if from >= len(j.text) || !isSeparator(j.text[from]) {
			return 0, false
		}
		from++
	}
	return j.number(from, separated)
}

// number reads a number of two digits, or of one if short allows it, up to 31.
func (j *judged) number(from int, short bool) (to int, ok bool) {
	digits := 0
	for from+digits < len(j.text) && digits < 2 && isDigit(j.text[from+digits]) {
		digits++
	}
	switch {
	case digits == 2:
		n := 10*(j.text[from]-'0') + j.text[from+1] - '0'
		return from + 2, n >= 1 && n <= 31
	case digits == 1 && short:
		return from + 1, true
	}
	return 0, false
}

func (j *judged) year(from int) bool {
	if from+4 > len(j.text) {
		return false
	}
	century := string(j.text[from : from+2])
	return (century == "19" || century == "20") && isDigit(j.text[from+2]) && isDigit(j.text[from+3])
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func isSeparator(r rune) bool { return r == '.' || r == '-' || r == '/' || r == '_' || r == ' ' }
