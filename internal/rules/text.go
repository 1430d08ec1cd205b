package rules

import "unicode/utf8"

// length is the number of code points.
func length(text string) uint64 { return uint64(utf8.RuneCountInString(text)) } //nolint:gosec // G115: a count is not negative

// isUUID returns whether a text is five groups of hexadecimal digits in either case, with hyphens between them.
func isUUID(text string) bool {
	if len(text) != len("00000000-0000-0000-0000-000000000000") {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}
