package userfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// elements cuts a JSON document into its users without reading it whole. encoding/json's decoder holds a
// whole token, and a string of a gigabyte is one: this looks at brackets and quotes only, and leaves it to
// encoding/json to refuse what is between them.
type elements struct {
	in     *bufio.Reader
	within shape
	number int64
	buf    []byte
	// open says that the array of users has begun, done that it has ended, found that there was one.
	open, done, found bool
	first             bool // nothing of the present array or object was read yet
}

// shape is where in the document the users are.
type shape int

const (
	inLines    shape = iota // one object a line
	inSequence              // one object after the other, over several lines each
	inArray                 // [user, user]
	inUsers                 // {…, "users": [user, user], …}
)

func newElements(in *bufio.Reader, within shape) *elements { return &elements{in: in, within: within} }

func (e *elements) unit() string { return "element" }

// errCut is a document that ends too early.
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

// advance goes to the next user, or returns io.EOF.
func (e *elements) advance() error {
	if e.done {
		return io.EOF
	}
	if !e.open {
		if err := e.begin(); err != nil {
			return err
		}
	}
	if e.within == inSequence {
		_, err := e.skipSpace()
		return err // io.EOF: that was all
	}
	for {
		more, err := e.more(']')
		if err != nil {
			return e.errCut(err)
		}
		if more {
			return nil
		}
		if e.within == inArray {
			e.done = true
			return io.EOF
		}
		// Keycloak never writes "users" twice; a file put together by hand may have it.
		e.first = false
		if err := e.findUsers(); err != nil {
			return err
		}
	}
}

// begin goes to the first user.
func (e *elements) begin() error {
	e.open = true
	switch e.within {
	case inArray:
		e.first = true
		return e.expect('[')
	case inUsers:
		e.first = true
		if err := e.expect('{'); err != nil {
			return err
		}
		return e.findUsers()
	case inLines, inSequence:
	}
	return nil
}

// findUsers passes over the members of the object up to "users", and into its array.
func (e *elements) findUsers() error {
	for {
		more, err := e.more('}')
		if err != nil {
			return e.errCut(err)
		}
		if !more {
			e.done = true
			if !e.found {
				return errors.New(`there is no "users" in it: an export without its users?`)
			}
			return io.EOF
		}
		if _, err := e.value(true); err != nil {
			return e.errCut(err)
		}
		users := string(e.buf) == `"users"`
		if err := e.expect(':'); err != nil {
			return err
		}
		if !users {
			if err := e.pass(); err != nil {
				return e.errCut(err)
			}
			continue
		}
		e.found, e.first = true, true
		return e.expect('[')
	}
}

// pass passes over a value.
func (e *elements) pass() error {
	if _, err := e.skipSpace(); err != nil {
		return err
	}
	_, err := e.value(false)
	return err
}

// more says whether the array or object, which ends with the byte last, has another member, and goes to it.
func (e *elements) more(last byte) (bool, error) {
	b, err := e.skipSpace()
	switch {
	case err != nil:
		return false, err
	case b == last:
		_, _ = e.in.Discard(1) // it was just there
		return false, nil
	case e.first:
		e.first = false
		return true, nil
	case b != ',':
		return false, fmt.Errorf("behind element %d there is neither , nor %c: the rest cannot be read", e.number, last)
	}
	_, _ = e.in.Discard(1) // it was just there
	_, err = e.skipSpace()
	return true, err
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

// skipSpace returns the next byte that is no space, without taking it.
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

// value reads one value into buf, or passes over it.
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
