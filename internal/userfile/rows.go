package userfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxRowLines is how many lines a field in quotes may go over. A quote too many would otherwise take the rest
// of the file for one field: it costs one line.
const maxRowLines = 100

// row is one record of CSV.
type row struct {
	columns map[string]int
	fields  []string
}

// get returns the field of a column, or "" where there is none.
func (r row) get(column string) string {
	if i, ok := r.columns[column]; ok && i < len(r.fields) {
		return r.fields[i]
	}
	return ""
}

// rows cuts CSV (RFC 4180) with a line of names at its top.
type rows struct {
	lines   *lines
	columns map[string]int
	// waiting lines were read for a record that turned out to be none.
	waiting []line
}

type line struct {
	number  int64
	text    []byte
	tooLong bool
}

func newRows(in *bufio.Reader) (*rows, error) {
	r := &rows{lines: newLines(in), columns: map[string]int{}}
	first, err := r.line()
	if err != nil {
		return nil, err
	}
	if first.tooLong {
		return nil, errTooLong("line of column names")
	}
	for i, name := range headerFields(string(first.text)) {
		if _, double := r.columns[name]; double {
			return nil, fmt.Errorf("two columns are named %q", name)
		}
		r.columns[name] = i
	}
	return r, nil
}

func headerFields(text string) []string {
	fields, err := parseRow([]byte(text), false)
	if err != nil {
		return nil
	}
	for i := range fields {
		fields[i] = strings.ToLower(strings.TrimSpace(fields[i]))
	}
	return fields
}

func (r *rows) unit() string { return "line" }

// line returns the next line that is not blank, in memory of its own.
func (r *rows) line() (line, error) {
	for {
		var next line
		if len(r.waiting) > 0 {
			next, r.waiting = r.waiting[0], r.waiting[1:]
		} else {
			text, tooLong, err := r.lines.read()
			if err != nil {
				return line{}, err
			}
			next = line{r.lines.number, bytes.Clone(text), tooLong}
		}
		if next.tooLong || len(bytes.TrimSpace(next.text)) > 0 {
			return next, nil
		}
	}
}

func (r *rows) next() (raw, error) {
	first, err := r.line()
	if err != nil {
		return raw{}, err
	}
	if first.tooLong {
		return raw{number: first.number, err: errTooLong("line")}, nil
	}
	more, closed, err := r.quoted(first)
	if err != nil {
		return raw{}, err
	}
	cut := raw{number: first.number}
	if cut.row, cut.err = r.join(first, more, closed); cut.err != nil {
		// Whatever is wrong is wrong with the first line: the others are tried by themselves.
		r.waiting = append(more, r.waiting...)
	}
	return cut, nil
}

// join makes one record of its lines.
func (r *rows) join(first line, more []line, closed bool) (row, error) {
	if !closed {
		return row{}, errors.New("a quote is opened and not closed")
	}
	text := first.text
	for _, l := range more {
		text = append(append(text, '\n'), l.text...)
	}
	fields, err := parseRow(text, false)
	if err != nil {
		return row{}, err
	}
	if len(fields) != len(r.columns) {
		return row{}, fmt.Errorf("it has %d fields, and there are %d columns", len(fields), len(r.columns))
	}
	return row{r.columns, fields}, nil
}

// quoted returns the lines that belong to the first one because a quote is open, and whether it was closed.
func (r *rows) quoted(first line) (more []line, closed bool, err error) {
	closed = bytes.Count(first.text, []byte(`"`))%2 == 0
	size := len(first.text)
	for !closed && len(more) < maxRowLines {
		next, err := r.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		more = append(more, next)
		if size += len(next.text); next.tooLong || size > MaxRecord {
			break
		}
		closed = bytes.Count(next.text, []byte(`"`))%2 != 0
	}
	return more, closed, nil
}

// parseRow splits one record at its commas.
func parseRow(text []byte, lazy bool) ([]string, error) {
	if bytes.IndexByte(text, '"') < 0 {
		return strings.Split(string(text), ","), nil
	}
	reader := csv.NewReader(bytes.NewReader(text))
	reader.LazyQuotes, reader.FieldsPerRecord = lazy, -1
	fields, err := reader.Read()
	if err != nil {
		return nil, errors.New("it is not CSV: a quote stands where none can be")
	}
	if _, err := reader.Read(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not CSV: a quote ends before the line does")
	}
	return fields, nil
}

// csvFormats tells CSV by its column names.
func csvFormats(header []string) []Format {
	switch {
	case slices.Contains(header, "encrypted_password"), slices.Contains(header, "raw_user_meta_data"):
		return []Format{Supabase}
	case slices.Contains(header, "email"):
		return []Format{CSV}
	case len(header) >= firebaseColumns && slices.Contains([]string{"true", "false"}, header[2]):
		return []Format{Firebase}
	}
	return nil
}
