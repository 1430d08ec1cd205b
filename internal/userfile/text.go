package userfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"golang.org/x/text/encoding/unicode"
)

// newText returns the text of a file as UTF-8 without a byte order mark. It unzips the file, and converts it from
// UTF-16, which spreadsheets and SQL Server write, if a byte order mark shows that.
func newText(in io.Reader) (*bufio.Reader, error) {
	buffered := bufio.NewReaderSize(in, peekSize)
	if head, _ := buffered.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		buffered = bufio.NewReaderSize(unzipped, peekSize)
	}
	head, _ := buffered.Peek(4) // a shorter text is no error, and a failed read fails again
	switch {
	case bytes.HasPrefix(head, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(head, []byte{0, 0, 0xfe, 0xff}):
		return nil, errors.New("the file is UTF-32: save it as UTF-8")
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		decoder := unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM).NewDecoder()
		buffered = bufio.NewReaderSize(decoder.Reader(buffered), peekSize)
	case bytes.HasPrefix(head, []byte("\ufeff")):
		_, _ = buffered.Discard(len("\ufeff")) // Peek has seen it
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return nil, errors.New("the file is a zip archive or a spreadsheet: unzip it, or save it as CSV")
	case bytes.IndexByte(head, 0) >= 0:
		return nil, errors.New("the file is no text: if it is UTF-16 without a byte order mark, save it as UTF-8")
	}
	return buffered, nil
}
