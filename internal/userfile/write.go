package userfile

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Writer writes accounts in one of our own formats, as Reader reads them.
type Writer struct {
	json *json.Encoder
	csv  *csv.Writer
	// hashes says that the hashes are written, too.
	hashes bool
}

// NewWriter writes to w in JSONL or CSV; Flush ends it.
func NewWriter(w io.Writer, format Format, hashes bool) (*Writer, error) {
	switch format { //nolint:exhaustive // the others are read and not written
	case JSONL:
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return &Writer{json: encoder, hashes: hashes}, nil
	case CSV:
		out := &Writer{csv: csv.NewWriter(w), hashes: hashes}
		return out, out.csv.Write(out.shown(columns()))
	}
	return nil, fmt.Errorf("accounts are written as %s or %s, not as %q", JSONL, CSV, format)
}

// shown leaves out the column of the hash if hashes are not written.
func (w *Writer) shown(fields []string) []string {
	if w.hashes {
		return fields
	}
	i := slices.Index(columns(), "password_hash")
	return slices.Delete(slices.Clone(fields), i, i+1)
}

// Write writes one account.
func (w *Writer) Write(u User) error {
	if w.csv != nil {
		fields := []string{
			idText(u.ID), u.Email, u.PasswordHash, u.FirstName, u.LastName, timeText(u.CreatedAt), timeText(u.LastLoginAt),
			strconv.FormatBool(!u.Suspended), strconv.FormatBool(u.EmailVerified),
		}
		for i, field := range fields {
			fields[i] = defuse(field)
		}
		return w.csv.Write(w.shown(fields))
	}
	active := !u.Suspended
	line := accountJSON{
		ID: idText(u.ID), Email: u.Email, FirstName: u.FirstName, LastName: u.LastName, Active: &active, EmailVerified: u.EmailVerified,
	}
	if w.hashes {
		line.PasswordHash = u.PasswordHash
	}
	if !u.CreatedAt.IsZero() {
		line.CreatedAt = &moment{Time: u.CreatedAt.UTC()}
	}
	if !u.LastLoginAt.IsZero() {
		line.LastLoginAt = &moment{Time: u.LastLoginAt.UTC()}
	}
	return w.json.Encode(line)
}

// Flush writes the buffered accounts.
func (w *Writer) Flush() error {
	if w.csv == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}
