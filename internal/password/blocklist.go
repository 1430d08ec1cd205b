package password

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"iter"
	"sort"
	"strings"
	"sync"
)

// packedWords is words.txt by gzip: it takes 0.3 MB less of the binary, and 5 ms when the first new password comes.
//
//go:embed blocklist/words.txt.gz
var packedWords []byte

// commonWords has one word in each line, folded and sorted by bytes, then a tab and a letter: a word of class 'a'+n is
// among the first 2^(n+1) guesses. blocklist/README.md says where the list comes from.
//
//nolint:gochecknoglobals // made once, when the first new password comes, and never changed
var commonWords = sync.OnceValue(func() string {
	var text strings.Builder
	packed, err := gzip.NewReader(bytes.NewReader(packedWords))
	if err == nil {
		_, err = io.Copy(&text, packed) //nolint:gosec // G110: it is our own
	}
	if err != nil {
		panic("password: the list of words is damaged: " + err.Error()) // the binary is
	}
	return text.String()
})

// wordList finds words in text in the order of its lines. Besides the text it takes four bytes for each line; a map would
// take some megabytes.
type wordList struct {
	text   string
	starts []uint32
	first  [257]int // the first line that begins with this byte or a higher one
}

//nolint:gochecknoglobals // made once, when the first new password comes, and never changed
var listed = sync.OnceValue(func() *wordList {
	text := commonWords()
	list := &wordList{text: text}
	for at := 0; at < len(text); at += strings.IndexByte(text[at:], '\n') + 1 {
		list.starts = append(list.starts, uint32(at))
	}
	for b := range list.first {
		list.first[b] = sort.Search(len(list.starts), func(i int) bool { return int(text[list.starts[i]]) >= b })
	}
	return list
})

// Words yields every word and password that guesses begin with, in lower case.
func Words() iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(commonWords()) {
			word, _, _ := strings.Cut(line, "\t")
			if !yield(word) {
				return
			}
		}
	}
}

// lineRange is the lines from low up to high, which begin with the same depth bytes.
type lineRange struct{ low, high, depth int }

func (l *wordList) all() lineRange { return lineRange{0, len(l.starts), 0} }

// narrow keeps the lines of in whose next byte is b.
func (l *wordList) narrow(in lineRange, b byte) lineRange {
	if in.depth == 0 {
		return lineRange{l.first[b], l.first[int(b)+1], 1}
	}
	low, high := in.low, in.high
	for low < high {
		middle := int(uint(low+high) >> 1)
		if l.text[int(l.starts[middle])+in.depth] < b {
			low = middle + 1
		} else {
			high = middle
		}
	}
	first := low
	high = in.high
	for low < high {
		middle := int(uint(low+high) >> 1)
		if l.text[int(l.starts[middle])+in.depth] <= b {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return lineRange{first, low, in.depth + 1}
}

// word returns the number of guesses to the word that is exactly the common beginning of in; ok is false if that
// beginning is not a word.
func (l *wordList) word(in lineRange) (guesses float64, ok bool) {
	end := int(l.starts[in.low]) + in.depth
	if l.text[end] != '\t' { // sorts before every byte that a word can have
		return 0, false
	}
	return float64(uint64(3) << (l.text[end+1] - 'a') >> 1), true
}
