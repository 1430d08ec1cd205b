package password

import (
	_ "embed"
	"strings"
)

// commonPasswords has one password a line, folded and sorted by bytes; where it
// comes from is in blocklist/README.md.
//
//go:embed blocklist/passwords.txt
var commonPasswords string

// onBlocklist searches the embedded text itself, which needs no memory beyond
// the binary and nothing at start-up: a map of it would take over a megabyte.
func onBlocklist(folded string) bool {
	low, high := 0, len(commonPasswords) // both at the start of a line
	for low < high {
		middle := low + (high-low)/2
		start := low + strings.LastIndexByte(commonPasswords[low:middle], '\n') + 1
		end := start + strings.IndexByte(commonPasswords[start:], '\n')
		switch strings.Compare(folded, commonPasswords[start:end]) {
		case 0:
			return true
		case -1:
			high = start
		default:
			low = end + 1
		}
	}
	return false
}
