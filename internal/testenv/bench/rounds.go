package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// round is one measurement of one target.
type round struct {
	benchkit.Result
	CPUMicros float64     `json:"server_cpu_us_per_request"`
	Calls     *storeCalls `json:"store_calls_per_request,omitempty"`
	RawCalls  *storeCalls `json:"store_calls,omitempty"`
	Memory    int64       `json:"memory_bytes,omitempty"`
	Peak      int64       `json:"peak_memory_bytes,omitempty"`
}

// alternate measures the targets in turn, round after round.
func alternate(ctx context.Context, o options, targets []target) ([]*series, error) {
	all := make([]*series, len(targets))
	for i, t := range targets {
		all[i] = &series{Name: t.name}
		if t.ops != "" {
			all[i].Idle = &t.idle
		}
	}
	for n := range o.rounds {
		for i, t := range targets {
			profile := ""
			if n == 0 {
				profile = o.profileOf(t.part)
			}
			one, err := t.round(ctx, o.window, profile)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			all[i].Rounds = append(all[i].Rounds, one)
		}
	}
	for _, s := range all {
		s.summarise(all[0])
	}
	return all, nil
}

// marks are readings at the two ends of a window.
type marks struct {
	cpu   [2]time.Duration
	calls [2]storeCalls
	taken int
}

func (t target) round(ctx context.Context, window time.Duration, cpuProfile string) (round, error) {
	if err := benchkit.ResetPeak(t.pid); err != nil {
		return round{}, err
	}
	profiled := t.profile(ctx, cpuProfile, window)
	var m marks
	r, err := benchkit.ClosedLoop(ctx, t.workers, window, t.call, func() error { return t.mark(ctx, &m) })
	if err := errors.Join(err, profiled()); err != nil {
		return round{}, err
	}
	one := round{Result: r}
	if r.Requests == 0 {
		return round{}, fmt.Errorf("no request was answered within %s", window)
	}
	one.CPUMicros = float64((m.cpu[1] - m.cpu[0]).Microseconds()) / float64(r.Requests)
	if t.ops != "" {
		raw := m.calls[1].minus(m.calls[0])
		net := raw.minus(t.idle.times(r.Seconds)).times(1 / float64(r.Requests))
		one.RawCalls, one.Calls = &raw, &net
	}
	if t.pid != os.Getpid() { // the client's memory says nothing about the server's
		one.Memory, one.Peak, err = benchkit.Memory(t.pid)
	}
	return one, err
}

func (t target) mark(ctx context.Context, m *marks) (err error) {
	if m.cpu[m.taken], err = benchkit.CPUTime(t.pid); err != nil {
		return err
	}
	if t.ops != "" {
		if m.calls[m.taken], err = readStoreCalls(ctx, t.ops); err != nil {
			return err
		}
	}
	m.taken++
	return nil
}

// profile takes a processor profile over the window, if there is a file for it.
func (t target) profile(ctx context.Context, file string, window time.Duration) (wait func() error) {
	if file == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		seconds := int(max(window, time.Second).Seconds())
		text, err := benchkit.Get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", t.ops, seconds))
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		done <- err
	}()
	return func() error { return <-done }
}
