package userfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRowLines is how many lines a field in quotes may span. Otherwise one quote too many would make the rest of the
// file one field; so it costs only one line.
const maxRowLines = 100

// row is one record of CSV.
type row struct {
	columns map[string]int
	fields  []string
}

// get returns the field of a column, or "" if there is no such column.
func (r row) get(column string) string {
	if i, ok := r.columns[column]; ok && i < len(r.fields) {
		return r.fields[i]
	}
	return ""
}

// rows splits CSV (RFC 4180) with a line of names at its top.
type rows struct {
	lines   *lines
	columns map[string]int
	comma   rune
	// waiting are lines that were read for a record that turned out to be invalid.
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
	var names []string
	names, r.comma = headerFields(string(first.text))
	for i, name := range names {
		if _, double := r.columns[name]; double {
			return nil, fmt.Errorf("two columns are named %q", name)
		}
		r.columns[name] = i
	}
	return r, nil
}

// headerFields returns the names of columns, in lower case, and their separator: the one of the usual separators that
// splits the line into the most fields, the comma before the others.
func headerFields(text string) (names []string, comma rune) {
	for _, separator := range separators() {
		fields, err := parseRow([]byte(text), separator)
		if err == nil && len(fields) > len(names) {
			names, comma = fields, separator
		}
	}
	for i := range names {
		names[i] = strings.ToLower(strings.TrimSpace(names[i]))
	}
	return names, comma
}

// separators are those of RFC 4180, of spreadsheets in countries with a decimal comma, of mysql --batch, and of psql.
func separators() []rune { return []rune{',', ';', '\t', '|'} }

func (r *rows) unit() string { return "line" }

// line returns the next line that is not blank. Its memory is not reused.
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
		// The fault counts for the first line alone: the other lines are read again as records.
		r.waiting = append(more, r.waiting...)
	}
	return cut, nil
}

// quotes reports whether fields of the line may be in quotes. mysql --batch writes no such quotes, so a quote within a
// field of its lines is an ordinary character.
func (r *rows) quotes(text []byte) bool {
	return r.comma != '\t' || bytes.HasPrefix(text, []byte(`"`)) || bytes.Contains(text, []byte("\t\""))
}

// join makes one record from its lines.
func (r *rows) join(first line, more []line, closed bool) (row, error) {
	if !closed {
		return row{}, errors.New("a quote is opened and not closed")
	}
	text := first.text
	for _, l := range more {
		text = append(append(text, '\n'), l.text...)
	}
	fields, err := parseRow(text, r.comma)
	if err != nil {
		return row{}, err
	}
	if len(fields) != len(r.columns) {
		return row{}, fmt.Errorf("it has %d fields, and there are %d columns, separated by %q", len(fields), len(r.columns), r.comma)
	}
	return row{r.columns, fields}, nil
}

// quoted returns the lines that belong to the first one because a quote is open, and whether it was closed.
func (r *rows) quoted(first line) (more []line, closed bool, err error) {
	closed = bytes.Count(first.text, []byte(`"`))%2 == 0 || !r.quotes(first.text)
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

// parseRow splits one record at its separators.
func parseRow(text []byte, comma rune) ([]string, error) {
	if bytes.IndexByte(text, '"') < 0 {
		return strings.Split(string(text), string(comma)), nil
	}
	reader := csv.NewReader(bytes.NewReader(text))
	reader.Comma, reader.FieldsPerRecord = comma, -1
	reader.LazyQuotes = comma == '\t' // see rows.quotes
	return readRow(reader)
}

func readRow(reader *csv.Reader) ([]string, error) {
	fields, err := reader.Read()
	if err != nil {
		return nil, errors.New("it is not CSV: there is a quote in a place where none is allowed")
	}
	if _, err := reader.Read(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not CSV: a quoted field ends before the line does")
	}
	return fields, nil
}
