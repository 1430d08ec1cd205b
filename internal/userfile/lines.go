package userfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lines splits a file at its line breaks. It holds no line longer than MaxRecord.
type lines struct {
	in     *bufio.Reader
	number int64
	long   []byte // of a line that does not fit into the buffer of in
}

func newLines(in *bufio.Reader) *lines { return &lines{in: in} }

func (l *lines) unit() string { return "line" }

// next skips blank lines.
func (l *lines) next() (raw, error) {
	for {
		text, tooLong, err := l.read()
		switch {
		case err != nil:
			return raw{}, err
		case tooLong:
			return raw{number: l.number, err: errTooLong("line")}, nil
		case len(bytes.TrimSpace(text)) > 0:
			return raw{number: l.number, json: text}, nil
		}
	}
}

// read returns the next line without its end, valid until the next call.
func (l *lines) read() (text []byte, tooLong bool, err error) {
	l.long = l.long[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !full && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		if err != nil && !full && len(part) == 0 && len(l.long) == 0 && !tooLong {
			return nil, false, io.EOF
		}
		if len(l.long)+len(part) > MaxRecord {
			tooLong, l.long = true, l.long[:0]
		}
		if full || len(l.long) > 0 {
			if !tooLong {
				l.long = append(l.long, part...)
			}
			part = l.long
		}
		if full {
			continue
		}
		l.number++
		return bytes.TrimRight(part, "\r\n"), tooLong, nil
	}
}
