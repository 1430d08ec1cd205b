package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"

	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// report has all figures; its JSON is for scripts.
type report struct {
	Go            string  `json:"go"`
	Platform      string  `json:"platform"`
	Processors    int     `json:"processors"`
	Connections   int     `json:"connections"`
	StreamsEach   int     `json:"streams_each"`
	LoginsAtATime int     `json:"logins_at_a_time"`
	LoadBefore    float64 `json:"load_average_before"`
	LoadAfter     float64 `json:"load_average_after"`

	ValidateToken []*series    `json:"validate_token"`
	OverHTTP      []*series    `json:"validate_token_over_http"`
	Login         []*series    `json:"login,omitempty"`
	RefreshToken  []*series    `json:"refresh_token,omitempty"`
	Overload      []*overload  `json:"overload,omitempty"`
	Verify        *inProcess   `json:"authverify"`
	Alone         []*alone     `json:"alone"`
	Revocations   *revocations `json:"revocations,omitempty"`

	options options
}

// series is one target over all rounds. The median has the median of each figure separately. The ratios are medians of
// the rounds' ratios to the neighbouring round of the baseline.
type series struct {
	Name   string      `json:"name"`
	Median round       `json:"median"`
	Ratio  float64     `json:"requests_ratio"`
	P99    float64     `json:"p99_ratio"`
	Idle   *storeCalls `json:"idle_store_calls_per_second,omitempty"`
	Rounds []round     `json:"rounds"`
}

func newReport(o options) *report {
	return &report{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(),
		Connections: connections, StreamsEach: streamsEach, LoginsAtATime: loginWorkers, LoadBefore: benchkit.LoadAverage(), options: o,
	}
}

func (s *series) summarise(baseline *series) {
	of := func(read func(round) float64) float64 { return benchkit.MedianOf(s.Rounds, read) }
	s.Median = round{
		Result: benchkit.Result{
			Requests: int(of(func(r round) float64 { return float64(r.Requests) })), Seconds: of(func(r round) float64 { return r.Seconds }),
			PerSecond: of(func(r round) float64 { return r.PerSecond }), P50: of(func(r round) float64 { return r.P50 }), P99: of(func(r round) float64 { return r.P99 }),
		},
		CPUMicros: of(func(r round) float64 { return r.CPUMicros }),
		Memory:    int64(of(func(r round) float64 { return float64(r.Memory) })), Peak: int64(of(func(r round) float64 { return float64(r.Peak) })),
	}
	if s.Idle != nil {
		s.Median.Calls = &storeCalls{of(func(r round) float64 { return r.Calls.Postgres }), of(func(r round) float64 { return r.Calls.Redis })}
	}
	rates, p99s := make([]float64, len(s.Rounds)), make([]float64, len(s.Rounds))
	for i, r := range s.Rounds {
		rates[i], p99s[i] = r.PerSecond/baseline.Rounds[i].PerSecond, r.P99/baseline.Rounds[i].P99
	}
	s.Ratio, s.P99 = benchkit.Median(rates), benchkit.Median(p99s)
}

// print writes the table for people.
func (r *report) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s %s, %d processors, load average %.1f before and %.1f after; medians of %d rounds of %s\n",
		r.Go, r.Platform, r.Processors, r.LoadBefore, r.LoadAfter, r.options.rounds, r.options.window)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("ValidateToken, %d connections x %d calls at a time", r.Connections, r.StreamsEach)
	if err := printTable(w, title, r.ValidateToken); err != nil {
		return err
	}
	title = fmt.Sprintf("ValidateToken over HTTP/1.1 by Connect, %d connections", r.Connections*r.StreamsEach)
	if err := printTable(w, title, r.OverHTTP); err != nil {
		return err
	}
	if len(r.Login) > 0 {
		if err := printTable(w, fmt.Sprintf("Login, %d at a time", r.LoginsAtATime), r.Login); err != nil {
			return err
		}
	}
	if len(r.RefreshToken) > 0 {
		if err := printTable(w, fmt.Sprintf("RefreshToken, %d at a time", refreshWorkers), r.RefreshToken); err != nil {
			return err
		}
	}
	if len(r.Overload) > 0 {
		if err := printOverload(w, r.Overload); err != nil {
			return err
		}
	}
	if err := errors.Join(r.Verify.write(w), printAlone(w, r.Alone)); err != nil {
		return err
	}
	if r.Revocations != nil {
		if err := r.Revocations.write(w); err != nil {
			return err
		}
	}
	return r.printSummary(w)
}

func printTable(w io.Writer, title string, all []*series) error {
	t, err := benchkit.NewTable(w, title, "", "requests/s", "ratio", "CPU us/request", "PostgreSQL/request", "Redis/request", "p50 ms", "p99 ms", "p99 ratio", "MiB", "peak MiB")
	if err != nil {
		return err
	}
	for _, s := range all {
		postgres, redis := "-", "-"
		if m := s.Median.Calls; m != nil {
			postgres, redis = callsText(m.Postgres), callsText(m.Redis)
		}
		memory, peak := "-", "-"
		if s.Median.Memory > 0 {
			memory, peak = strconv.FormatInt(s.Median.Memory>>20, 10), strconv.FormatInt(s.Median.Peak>>20, 10)
		}
		t.Line(s.Name, fmt.Sprintf("%.0f", s.Median.PerSecond), fmt.Sprintf("%.2f", s.Ratio), fmt.Sprintf("%.1f", s.Median.CPUMicros),
			postgres, redis, fmt.Sprintf("%.2f", s.Median.P50), fmt.Sprintf("%.2f", s.Median.P99), fmt.Sprintf("%.2f", s.P99),
			memory, peak)
	}
	return t.Flush()
}

// callsText shows no calls if the noise of the idle rate makes the number negative.
func callsText(perRequest float64) string { return fmt.Sprintf("%.3f", max(perRequest, 0)) }
