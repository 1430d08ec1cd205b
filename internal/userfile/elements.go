package userfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// elements splits JSON documents into their users without holding them whole. encoding/json's decoder holds a whole
// token, and a string of a gigabyte is one token. So this code looks only at brackets and quotes, and leaves it to
// encoding/json to refuse faults between them.
//
// A file may hold several documents one after the other, for instance if a program saves page after page.
type elements struct {
	in *bufio.Reader
	// path leads from the document to its users. It has names of members, and eachOf for the elements of an array.
	// Empty: each document is a user.
	path   []string
	number int64
	buf    []byte
	// open has one entry for each array and object of the path that was entered and not left. It is true while nothing
	// inside was read.
	open []bool
	// found says that the document had the last array of the path.
	found bool
}

// eachOf is the step of a path into all elements of an array.
const eachOf = "[]"

func newElements(in *bufio.Reader, path []string) *elements { return &elements{in: in, path: path} }

func (e *elements) unit() string { return "element" }

// errCut is the error for a document that ends too early.
func (e *elements) errCut(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("the file ends within element %d: it is cut off", e.number+1)
}

// next returns the next user.
func (e *elements) next() (raw, error) {
	if err := e.advance(); err != nil {
		return raw{}, err
	}
	tooLong, err := e.value(true)
	if err != nil {
		return raw{}, e.errCut(err)
	}
	e.number++
	if tooLong {
		return raw{number: e.number, err: errTooLong("element")}, nil
	}
	return raw{number: e.number, json: e.buf}, nil
}

// advance moves to the next user, or returns io.EOF.
func (e *elements) advance() error {
	for {
		if len(e.open) == 0 {
			if err := e.document(); err != nil || len(e.path) == 0 {
				return err
			}
		}
		var found bool
		var err error
		if e.path[len(e.open)-1] == eachOf {
			found, err = e.element()
		} else {
			err = e.member()
		}
		if err != nil {
			return e.errCut(err)
		}
		if found {
			return nil
		}
	}
}

// document moves to the next document of the file, or returns io.EOF.
func (e *elements) document() error {
	_, err := e.skipSpace()
	switch {
	case errors.Is(err, io.EOF) && !e.found && len(e.path) > 1:
		return fmt.Errorf("there is no %q in it: perhaps the export was made without users", e.path[len(e.path)-2])
	case err != nil, len(e.path) == 0:
		return err
	}
	return e.enter()
}

// enter enters the array or object that the next step of the path needs.
func (e *elements) enter() error {
	opening := byte('{')
	if e.path[len(e.open)] == eachOf {
		opening = '['
	}
	if err := e.expect(opening); err != nil {
		return err
	}
	e.open = append(e.open, true)
	e.found = e.found || len(e.open) == len(e.path)
	return nil
}

// more moves to the next member of the array or object that was entered last, and reports whether there is one. If not,
// it leaves the array or object, which ends with the byte last.
func (e *elements) more(last byte) (bool, error) {
	first := &e.open[len(e.open)-1]
	b, err := e.skipSpace()
	switch {
	case err != nil:
		return false, err
	case b == last:
		_, _ = e.in.Discard(1) // skipSpace has seen it
		e.open = e.open[:len(e.open)-1]
		return false, nil
	case *first:
		*first = false
		return true, nil
	case b != ',':
		return false, fmt.Errorf("behind element %d there is neither , nor %c: the rest cannot be read", e.number, last)
	}
	_, _ = e.in.Discard(1) // skipSpace has seen it
	_, err = e.skipSpace()
	return true, err
}

// element moves to the next element of the array that was entered last; found says that it is a user. It skips elements
// without the members of the path, such as the comment at the top of a phpMyAdmin export.
func (e *elements) element() (found bool, err error) {
	more, err := e.more(']')
	if err != nil || !more {
		return false, err
	}
	if len(e.open) == len(e.path) {
		return true, nil
	}
	return false, e.enterOrPass()
}

// member moves to the member of the object that the path names, and skips the others. No program writes such a member
// twice, but a file that was made by hand may have it twice.
func (e *elements) member() error {
	name := `"` + e.path[len(e.open)-1] + `"`
	more, err := e.more('}')
	if err != nil || !more {
		return err
	}
	if _, err := e.value(true); err != nil {
		return err
	}
	named := string(e.buf) == name
	if err := e.expect(':'); err != nil {
		return err
	}
	if b, err := e.skipSpace(); err != nil || !named || b == 'n' { // null
		return firstError(err, e.pass())
	}
	return e.enter()
}

// enterOrPass enters a value in which the path can continue, and skips every other value.
func (e *elements) enterOrPass() error {
	b, err := e.skipSpace()
	if err != nil {
		return err
	}
	if b == '{' && e.path[len(e.open)] != eachOf || b == '[' && e.path[len(e.open)] == eachOf {
		return e.enter()
	}
	return e.pass()
}

// pass skips a value.
func (e *elements) pass() error {
	if _, err := e.skipSpace(); err != nil {
		return err
	}
	_, err := e.value(false)
	return err
}

func (e *elements) expect(want byte) error {
	b, err := e.skipSpace()
	if err != nil {
		return e.errCut(err)
	}
	if b != want {
		return fmt.Errorf("behind element %d there is no %c: the rest cannot be read", e.number, want)
	}
	_, err = e.in.Discard(1)
	return err
}

// skipSpace returns the next byte that is not a space, without consuming it.
func (e *elements) skipSpace() (byte, error) {
	for {
		b, err := e.in.ReadByte()
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\t' && b != '\n' && b != '\r' {
			return b, e.in.UnreadByte()
		}
	}
}

// value reads one value into buf, or skips it.
func (e *elements) value(keep bool) (tooLong bool, err error) {
	e.buf = e.buf[:0]
	depth, inString, escaped := 0, false, false
	for n := 0; ; n++ {
		b, err := e.in.ReadByte()
		if err != nil {
			return tooLong, err
		}
		scalarEnds := depth == 0 && !inString && n > 0 && isDelimiter(b)
		if scalarEnds {
			return tooLong, e.in.UnreadByte()
		}
		switch {
		case !keep || tooLong:
		case len(e.buf) < MaxRecord:
			e.buf = append(e.buf, b)
		default:
			tooLong, e.buf = true, e.buf[:0]
		}
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
			if !inString && depth == 0 {
				return tooLong, nil
			}
		case inString:
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
			if depth <= 0 {
				return tooLong, nil
			}
		}
	}
}

func isDelimiter(b byte) bool {
	switch b {
	case ',', ']', '}', ':', ' ', '\t', '\n', '\r', '{', '[', '"':
		return true
	}
	return false
}
