package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// find returns the series of this name, or nil.
func find(all []*series, name string) *series {
	i := slices.IndexFunc(all, func(s *series) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

// printSummary writes the figures that matter most in one table. What was not measured is left out.
func (r *report) printSummary(w io.Writer) error {
	t, err := benchkit.NewTable(w, "In short", "", "figure")
	if err != nil {
		return err
	}
	line := func(what, format string, values ...any) { t.Line(what, fmt.Sprintf(format, values...)) }
	if s := find(r.ValidateToken, measured); s != nil {
		line("ValidateToken, requests/s beside the bare echo", "%.2f", s.Ratio)
		line("ValidateToken, p99 beside the bare echo", "%.2f", s.P99)
	}
	for _, form := range httpForms() {
		if s := find(r.OverHTTP, form.named(measured)); s != nil {
			line(fmt.Sprintf("ValidateToken over HTTP, %s, requests/s beside the bare JSON echo", form.name), "%.2f (bar %.2f)", s.Ratio, form.bar)
		}
	}
	if login, others := find(r.Login, measured), find(r.Login, othersName); login != nil && others != nil {
		line("Argon2id, processor time beside x/crypto's", "%.2f", r.Login[0].Median.CPUMicros/others.Median.CPUMicros)
		line("Login, processor time beside the hash alone", "%.2f", login.Median.CPUMicros/r.Login[0].Median.CPUMicros)
		if before := find(r.Login, besideName); before != nil {
			line("Login, requests/s beside the other build", "%.2f", login.Ratio/before.Ratio)
		}
	}
	if s := find(r.RefreshToken, measured); s != nil {
		line("RefreshToken, processor time in us", "%.0f", s.Median.CPUMicros)
		line("RefreshToken, calls of PostgreSQL and Redis", "%s and %s", callsText(s.Median.Calls.Postgres), callsText(s.Median.Calls.Redis))
	}
	for _, v := range r.Overload {
		if v.Name == measured {
			line(fmt.Sprintf("%d logins at once, ended by their deadline", v.Logins), "%d", v.Late)
			line("ValidateToken's p99 meanwhile beside its quiet p99", "%.1f", v.Ratio)
			line("memory meanwhile in MiB", "%d", v.Peak>>20)
		}
	}
	line("authverify.Verify in ns, allocations", "%.0f, %d", r.Verify.Nanos, r.Verify.Allocs)
	for _, a := range r.Alone {
		if a.Name == measured {
			line("start in ms, idle memory in MiB, binary in MB", "%.0f, %.1f, %.1f", a.StartMillis, float64(a.Idle)/(1<<20), float64(a.Binary)/1e6)
		}
	}
	if r.Revocations != nil {
		line("Logout, final on two replicas, p50 and p99 in ms", "%.2f, %.2f", r.Revocations.Logout.P50, r.Revocations.Logout.P99)
	}
	return t.Flush()
}
