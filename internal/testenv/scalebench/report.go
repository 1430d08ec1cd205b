package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// report has all figures; its JSON is for scripts.
type report struct {
	Go         string  `json:"go"`
	Platform   string  `json:"platform"`
	Processors int     `json:"processors"`
	Postgres   string  `json:"postgres"`
	LoadBefore float64 `json:"load_average_before"`
	LoadAfter  float64 `json:"load_average_after"`
	Minutes    float64 `json:"minutes"`

	Accounts [2]int64 `json:"accounts"`
	Sessions int64    `json:"sessions"`
	Rows     int64    `json:"ledger_rows"`

	Bytes   []footprint `json:"bytes,omitempty"`
	Starts  []*starts   `json:"starts,omitempty"`
	Calls   []*pairOf   `json:"calls,omitempty"`
	Plans   []plan      `json:"plans,omitempty"`
	Appends []*appends  `json:"appends,omitempty"`
	Idle    idleCalls   `json:"idle_per_second"`

	options options
}

func newReport(o options) *report {
	return &report{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(), LoadBefore: benchkit.LoadAverage(),
		Accounts: [2]int64{o.accounts, o.smallAccounts}, Sessions: o.sessions, Rows: o.rows, options: o,
	}
}

func (r *report) addStarts(s *starts, err error) error {
	r.Starts = append(r.Starts, s)
	return err
}

// print writes the report for people.
func (r *report) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s %s, %d processors, PostgreSQL %s with shared_buffers %s; load average %.1f before and %.1f after; %.1f minutes\n"+
		"%d accounts, %d sessions and %d rows of the ledger beside %d accounts; medians of %d rounds of %s\n",
		r.Go, r.Platform, r.Processors, r.Postgres, r.options.sharedBuffers, r.LoadBefore, r.LoadAfter, r.Minutes,
		r.Accounts[0], r.Sessions, r.Rows, r.Accounts[1], r.options.rounds, r.options.window)
	if err != nil {
		return err
	}
	for _, part := range []func(io.Writer) error{r.printCalls, r.printStarts, r.printBytes, r.printAppends, r.printPlans} {
		if err := part(w); err != nil {
			return err
		}
	}
	return nil
}

func two(v float64) string { return fmt.Sprintf("%.2f", v) }

func (r *report) printCalls(w io.Writer) error {
	if len(r.Calls) == 0 {
		return nil
	}
	t, err := benchkit.NewTable(w, "Calls, ms", "", "large p50", "small p50", "large p99", "small p99", "p99 ratio", "large calls/s", "load")
	if err != nil {
		return err
	}
	for _, c := range r.Calls {
		load := benchkit.Median(append([]float64(nil), c.Load...))
		t.Line(c.Name, two(c.Large.P50), two(c.Small.P50), two(c.Large.P99), two(c.Small.P99), two(c.Ratio), fmt.Sprintf("%.0f", c.Large.PerSecond), fmt.Sprintf("%.1f", load))
	}
	return t.Flush()
}

func (r *report) printStarts(w io.Writer) error {
	if len(r.Starts) == 0 {
		return nil
	}
	t, err := benchkit.NewTable(w, "Starts, ms", "", "large", "small", "ratio")
	if err != nil {
		return err
	}
	for _, s := range r.Starts {
		t.Line(s.Name, fmt.Sprintf("%.0f", s.Large), fmt.Sprintf("%.0f", s.Small), two(s.Ratio))
	}
	return t.Flush()
}

func (r *report) printBytes(w io.Writer) error {
	if len(r.Bytes) == 0 {
		return nil
	}
	t, err := benchkit.NewTable(w, "Bytes for each, in the large database", "", "rows", "table", "indexes")
	if err != nil {
		return err
	}
	for _, b := range r.Bytes {
		t.Line(b.What, b.Rows, fmt.Sprintf("%.0f", b.Table), fmt.Sprintf("%.0f", b.Index))
	}
	return t.Flush()
}

func (r *report) printAppends(w io.Writer) error {
	if len(r.Appends) == 0 {
		return nil
	}
	columns := []any{"a flush takes, ms (commit_delay, us)"}
	for _, a := range r.Appends {
		columns = append(columns, fmt.Sprintf("%.2f (%d)", a.Flush, a.CommitDelay))
	}
	t, err := benchkit.NewTable(w, "Revocations a second, and the p99 of a call in ms", columns...)
	if err != nil {
		return err
	}
	for i, way := range r.Appends[0].Ways {
		cells := []any{way.Name}
		for _, a := range r.Appends {
			cells = append(cells, fmt.Sprintf("%.0f (%.1f)", a.Ways[i].Rows, a.Ways[i].Result.P99))
		}
		t.Line(cells...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nA replica that nobody calls: %.1f transactions of PostgreSQL and %.1f commands of Redis a second\n", r.Idle.Postgres, r.Idle.Redis)
	return err
}

func (r *report) printPlans(w io.Writer) error {
	for _, p := range r.Plans {
		if _, err := fmt.Fprintf(w, "\n%s\n\n    %s\n", p.Name, strings.ReplaceAll(strings.TrimSpace(p.Text), "\n", "\n    ")); err != nil {
			return err
		}
	}
	return nil
}
