package userfile

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// People open exports in spreadsheets, which run a cell that begins with "=", "+", "-" or "@" as a formula, and anybody
// can sign up with such a name. So a part that could be taken for one gets an apostrophe before it. Spreadsheets read
// an apostrophe as "this is text", and an import removes it again. A part begins at the beginning of the cell, and
// after each character at which a spreadsheet may be set to split: a program that expects semicolons splits our files
// at them too.
//
// A part that has an apostrophe already gets one more, so that the way back is exact for every text. An import removes
// one, and only in places where an export would have added it.

// defuse returns a cell that no spreadsheet runs.
func defuse(cell string) string {
	return eachPart(cell, func(part string, breaks bool) string {
		if runs(part, breaks) {
			return "'" + part
		}
		return part
	})
}

// arm is the inverse of defuse.
func arm(cell string) string {
	return eachPart(cell, func(part string, breaks bool) string {
		if bare, marked := strings.CutPrefix(part, "'"); marked && runs(bare, breaks) {
			return bare
		}
		return part
	})
}

// splitters are the characters at which programs split lines, and the ends of lines.
const splitters = ",;|\t\r\n"

// eachPart applies change to each part of a cell and joins the results. breaks says that the part is the first one and
// that white space follows at which programs split: some programs skip such a part.
func eachPart(cell string, change func(part string, breaks bool) string) string {
	var b strings.Builder
	for rest, first := cell, true; ; first = false {
		end := strings.IndexAny(rest, splitters)
		if end < 0 {
			b.WriteString(change(rest, false))
			return b.String()
		}
		b.WriteString(change(rest[:end], first && rest[end] <= ' '))
		b.WriteByte(rest[end])
		rest = rest[end+1:]
	}
}

// runs reports whether a part may be a formula: a formula begins it, or follows white space, invisible characters and
// quotes, also apostrophes, which programs skip.
func runs(part string, breaks bool) bool {
	for _, r := range part {
		switch {
		case unicode.In(r, unicode.Z, unicode.C, unicode.Pi, unicode.Pf, unicode.Variation_Selector), isQuote(r):
		default:
			return beginsFormula(r)
		}
	}
	return breaks
}

func isQuote(r rune) bool { return strings.ContainsRune("\"'`´＂＇", r) }

// beginsFormula also recognises full-width and other forms of a character (NFKC), as spreadsheets do in East
// Asian settings.
func beginsFormula(r rune) bool {
	plain, _ := utf8.DecodeRuneInString(norm.NFKC.String(string(r)))
	return strings.ContainsRune("=+-@\u2212", plain)
}
