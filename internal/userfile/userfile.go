// Package userfile reads accounts from files, one at a time, and writes them: our own JSON Lines and CSV, and
// what other programs export.
//
// Memory grows neither with the file nor with the length of a line: a record longer than MaxRecord is
// reported and skipped. A record that cannot be read is reported with its number and does not end the
// reading.
package userfile

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// MaxRecord is the most bytes that a line or an element may have.
const MaxRecord = 1 << 20

// peekSize is what the format is told from, and what is read at once.
const peekSize = 64 << 10

// User is an account in a file. Only Email must be there.
type User struct {
	// ID is kept. Nil: the account gets a new one.
	ID    uuid.UUID
	Email string
	// PasswordHash is as its program wrote it, in a form that package hashforms reads together with
	// PasswordParts. Empty: nobody can log in before the password is reset.
	PasswordHash        string
	PasswordParts       PasswordParts
	FirstName, LastName string
	// CreatedAt and LastLoginAt: zero where the file does not tell.
	CreatedAt, LastLoginAt time.Time
	// Suspended says that the account may not be used.
	Suspended     bool
	EmailVerified bool
}

// PasswordParts is what a file holds of a password hash beside its text. The zero value: nothing, the text
// says it all.
type PasswordParts struct {
	// Scheme names how the parts belong together, one of hashforms.Schemes, such as "passport-local-mongoose",
	// "pbkdf2" or "scrypt".
	Scheme string
	// Salt is as the file writes it.
	Salt string
	// Params are parameters of the scheme, such as "iterations=25000,digest=sha256". Those that are missing
	// have the scheme's own values.
	Params string
}

// Record is one line or element.
type Record struct {
	// Number counts from 1: lines of the file, or elements of a JSON document, as Reader.Unit says.
	Number int64
	User   User
	// Err says why it is no account. User.Email may be set all the same, to name it.
	Err error
}

// Options say how to read a file.
type Options struct {
	// Format of the file. Empty: the first 64 KiB decide.
	Format Format
	// Firebase are the hash parameters of the project. Without them Firebase's accounts with passwords cannot
	// be read.
	Firebase *password.FirebaseScrypt
	// Now is the clock, for bans that end. Required.
	Now func() time.Time
}

// Reader reads the accounts of one file.
type Reader struct {
	format Format
	source source
	parse  parser
}

// source cuts a file into records.
type source interface {
	// next returns the next one, which is good until the following call, or io.EOF.
	next() (raw, error)
	unit() string
}

// raw is a record that was cut out and not understood yet.
type raw struct {
	number int64
	json   []byte
	row    row   // of CSV
	err    error // why it could not be cut out
}

// fatalError is a record that says that the rest of the file is not worth reading.
type fatalError struct{ error }

// Unwrap is for errors.Is.
func (f fatalError) Unwrap() error { return f.error }

// NewReader looks at the beginning of in, which may be compressed with gzip, or in UTF-16 with a byte order
// mark, and fails where the format is not clear, or the file not in it.
func NewReader(in io.Reader, opts Options) (*Reader, error) {
	text, err := newText(in)
	if err != nil {
		return nil, err
	}
	head, err := text.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	seen := look(head)
	if opts.Format, err = seen.choose(opts.Format); err != nil {
		return nil, err
	}
	of := opts.Format.spec()
	r := &Reader{format: of.format, parse: of.parse(opts)}
	r.source, err = seen.source(text, of)
	return r, err
}

// Format is what the file is in.
func (r *Reader) Format() Format { return r.format }

// Unit is what records are numbered by: "line" or "element".
func (r *Reader) Unit() string { return r.source.unit() }

// Next returns the next record, or io.EOF. A record that is no account has its Err; an error means that the
// rest cannot be read.
func (r *Reader) Next() (Record, error) {
	cut, err := r.source.next()
	if err != nil {
		return Record{}, err
	}
	record := Record{Number: cut.number, Err: cut.err}
	if cut.err == nil {
		record.User, record.Err = r.parse(cut)
	}
	if fatal, ok := errors.AsType[fatalError](record.Err); ok {
		return Record{}, fmt.Errorf("%s %d: %w", r.Unit(), record.Number, fatal.error)
	}
	return record, nil
}

// errTooLong names what was passed over.
func errTooLong(unit string) error {
	return fmt.Errorf("the %s is longer than 1 MiB", unit)
}
