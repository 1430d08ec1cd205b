package benchkit

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// Table is one for people. The first error of writing is kept for Flush.
type Table struct {
	out *tabwriter.Writer
	err error
}

// NewTable begins a table with a title and the names of its columns.
func NewTable(w io.Writer, title string, columns ...any) (*Table, error) {
	if _, err := fmt.Fprintf(w, "\n%s\n\n", title); err != nil {
		return nil, err
	}
	t := &Table{out: tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)}
	t.Line(columns...)
	return t, nil
}

// Line adds a line.
func (t *Table) Line(cells ...any) {
	for _, cell := range cells {
		_, err := fmt.Fprintf(t.out, "%v\t", cell)
		t.err = errors.Join(t.err, err)
	}
	_, err := fmt.Fprintln(t.out)
	t.err = errors.Join(t.err, err)
}

// Flush writes the table.
func (t *Table) Flush() error { return errors.Join(t.err, t.out.Flush()) }
