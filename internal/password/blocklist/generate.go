//go:build ignore

// Command generate reads a JSON array of passwords, the commonest first, from standard input. It also reads
// blocklist/stock.txt, and writes words.txt as README.md of this folder describes. README.md has the whole command.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"math/bits"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// stockRank is the rank of each word of stock.txt that passwords.json lists after that rank, or not at all.
const stockRank = 48

func main() {
	var source []string
	if err := json.NewDecoder(os.Stdin).Decode(&source); err != nil {
		log.Fatal(err)
	}
	ranks := make(map[string]int)
	keep := func(word string, rank int) {
		word = norm.NFKC.String(strings.ToLower(norm.NFKC.String(word)))
		n := utf8.RuneCountInString(word)
		if n < 3 || n > 128 || strings.ContainsAny(word, "\r\n\t") {
			return
		}
		if before, found := ranks[word]; !found || rank < before {
			ranks[word] = rank
		}
	}
	for i, password := range source {
		keep(password, i+1)
	}
	stock, err := os.ReadFile("internal/password/blocklist/stock.txt")
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(stock)) {
		if !strings.HasPrefix(line, "#") {
			for _, word := range strings.Fields(line) {
				keep(word, stockRank)
			}
		}
	}
	out := bufio.NewWriter(os.Stdout)
	for _, word := range slices.Sorted(maps.Keys(ranks)) {
		fmt.Fprintf(out, "%s\t%c\n", word, 'a'+bits.Len(uint(ranks[word]))-1)
	}
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}
