package password

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold makes texts comparable as people see them. It converts to NFKC and lower case, and removes the accents of Latin
// letters and all invisible characters (joiners, soft hyphens).
func fold(s string) string {
	var out strings.Builder
	afterLatin := false
	for _, r := range norm.NFKC.String(strings.ToLower(norm.NFKC.String(s))) {
		if unicode.Is(unicode.Cf, r) || afterLatin && unicode.Is(unicode.Mn, r) {
			continue
		}
		bare := withoutAccent(r)
		afterLatin = bare[0] >= 'a' && bare[0] <= 'z'
		out.WriteString(bare)
	}
	return norm.NFKC.String(out.String())
}

// withoutAccent returns the ASCII letters that people write for r if their keyboard has no key for r.
func withoutAccent(r rune) string {
	switch r {
	case 'ß':
		return "ss"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'ø':
		return "o"
	case 'ł':
		return "l"
	case 'đ', 'ð':
		return "d"
	case 'þ':
		return "th"
	case 'ı':
		return "i"
	}
	if base := norm.NFD.String(string(r)); base[0] >= 'a' && base[0] <= 'z' {
		return base[:1]
	}
	return string(r)
}

// lookAlikes returns the letters that people replace by r, without r itself: "p@55w0rd", and Cyrillic and Greek letters
// that look like Latin ones.
func lookAlikes(r rune) string {
	switch r {
	case '4', '@', 'а', 'α':
		return "a"
	case '8', 'в', 'β':
		return "b"
	case '(', '<', '{', '[', '¢', 'с', 'ς':
		return "c"
	case '3', '€', 'е', 'ε', '&':
		return "e"
	case '6':
		return "gb"
	case '9':
		return "gq"
	case '#', 'н':
		return "h"
	case '1', '!', '|':
		return "il"
	case '¡', 'і', 'ι':
		return "i"
	case '/', '£':
		return "l"
	case 'м':
		return "m"
	case 'к', 'κ':
		return "k"
	case 'ν':
		return "v"
	case '0', '°', 'о', 'ο', 'σ':
		return "o"
	case 'р', 'ρ':
		return "p"
	case '5', '$', '§', 'ѕ':
		return "s"
	case '7':
		return "tl"
	case '+', 'т', 'τ':
		return "t"
	case 'µ', 'μ', 'υ':
		return "u"
	case '2':
		return "z"
	case '%', '*', 'х', 'χ':
		return "x"
	case '¥', 'у', 'γ':
		return "y"
	case 'ј':
		return "j"
	}
	return ""
}
