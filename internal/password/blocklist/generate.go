//go:build ignore

// Command generate reads a JSON array of passwords from standard input and
// writes those of an allowed length to standard output: NFC, lower-cased, sorted
// by bytes, each once. README.md has the whole command.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func main() {
	var source []string
	if err := json.NewDecoder(os.Stdin).Decode(&source); err != nil {
		log.Fatal(err)
	}
	var kept []string
	for _, password := range source {
		folded := norm.NFC.String(strings.ToLower(norm.NFC.String(password)))
		length := utf8.RuneCountInString(folded)
		if length >= 8 && length <= 128 && !strings.ContainsAny(folded, "\r\n") {
			kept = append(kept, folded)
		}
	}
	slices.Sort(kept)
	out := bufio.NewWriter(os.Stdout)
	for _, password := range slices.Compact(kept) {
		if _, err := out.WriteString(password + "\n"); err != nil {
			log.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}
