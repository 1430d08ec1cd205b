// Package userfile reads accounts from files, one at a time, and writes them. It knows our own JSON Lines and CSV, and
// the exports of other programs.
//
// Memory grows neither with the file nor with the length of a line: a record longer than MaxRecord is reported and
// skipped. A record that cannot be read is reported with its number, and the reading continues.
package userfile

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// MaxRecord is the greatest length of a line or an element, in bytes.
const MaxRecord = 1 << 20

// peekSize is how much of a file is read to detect its format, and how much is read at once.
const peekSize = 64 << 10

// User is an account in a file. Only Email is required.
type User struct {
	// ID stays the id of the account. Nil: the account gets a new one.
	ID    uuid.UUID
	Email string
	// PasswordHash is the hash as its program wrote it, in a form that package hashforms reads together with
	// PasswordParts. Empty: nobody can log in before the password is reset.
	PasswordHash        string
	PasswordParts       PasswordParts
	FirstName, LastName string
	// CreatedAt and LastLoginAt are zero if the file does not have them.
	CreatedAt, LastLoginAt time.Time
	// Suspended means that the account may not be used.
	Suspended     bool
	EmailVerified bool
}

// PasswordParts are the parts of a password hash that a file has beside its text. The zero value: there are none, and
// the text is complete.
type PasswordParts struct {
	// Scheme names the way to join the parts, one of hashforms.Schemes, such as "passport-local-mongoose", "pbkdf2" or
	// "scrypt".
	Scheme string
	// Salt is the salt as the file has it.
	Salt string
	// Params are parameters of the scheme, such as "iterations=25000,digest=sha256". Missing ones have the scheme's own
	// values.
	Params string
	// Prehash names what the program hashed in place of the password, if it always does, one of password.Prehashes.
	Prehash string
}

// Record is one line or element.
type Record struct {
	// Number counts from 1: lines of the file, or elements of a JSON document, as Reader.Unit returns.
	Number int64
	User   User
	// Err is why the record is not an account. User.Email may be set nevertheless, to name the record.
	Err error
}

// Options say how to read a file.
type Options struct {
	// Format of the file. Empty: the first 64 KiB decide.
	Format Format
	// Columns name the columns of a table that is nobody's format. Format can then be JSONL or CSV only.
	Columns Columns
	// Firebase are the hash parameters of the project. Without them Firebase's accounts with passwords cannot be read.
	Firebase *password.FirebaseScrypt
	// Now is the clock, for bans that end. Required.
	Now func() time.Time

	// around are members of the objects around the users that hold for all of them, in lower case.
	around map[string]string
}

// Reader reads the accounts of one file.
type Reader struct {
	format Format
	source source
	parse  parser
}

// source splits a file into records.
type source interface {
	// next returns the next record, valid until the next call, or io.EOF.
	next() (raw, error)
	unit() string
}

// raw is a record that was split off and not parsed yet.
type raw struct {
	number int64
	json   []byte
	row    row   // of CSV
	err    error // why it could not be split off
}

// fatalError is the error of a record which means that the rest of the file cannot be used.
type fatalError struct{ error }

// Unwrap is for errors.Is.
func (f fatalError) Unwrap() error { return f.error }

// NewReader reads the beginning of in, which may be compressed with gzip, or in UTF-16 with a byte order mark. It fails
// if the format is not clear, or if the file does not have it.
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
	of, err := seen.spec(opts)
	if err != nil {
		return nil, err
	}
	opts.around = seen.around
	r := &Reader{format: of.format, parse: of.parse(opts)}
	r.source, err = seen.source(text, of, opts.Columns)
	return r, err
}

// Format returns the format of the file.
func (r *Reader) Format() Format { return r.format }

// Unit returns the unit that numbers of records count: "line" or "element".
func (r *Reader) Unit() string { return r.source.unit() }

// Next returns the next record, or io.EOF. A record that is not an account has its Err set. An error means that the
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

// errTooLong names the record that was skipped.
func errTooLong(unit string) error {
	return fmt.Errorf("the %s is longer than 1 MiB", unit)
}
