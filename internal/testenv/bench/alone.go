package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/authverify"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// alone has what one replica takes while nobody calls it.
type alone struct {
	Name string `json:"name"`
	// StartMillis is from the start of the process to its ready line, with a database that is up to date.
	StartMillis float64 `json:"start_ms"`
	// Idle is the resident memory some seconds later, Binary the size of the file.
	Idle   int64 `json:"idle_memory_bytes"`
	Binary int64 `json:"binary_bytes"`
}

// measureAlone starts each program as often as there are rounds.
func (s *stack) measureAlone(ctx context.Context, o options, programs []program) ([]*alone, error) {
	var all []*alone
	for _, p := range programs {
		a := &alone{Name: p.name}
		info, err := os.Stat(p.path)
		if err != nil {
			return nil, err
		}
		a.Binary = info.Size()
		starts, idle := make([]float64, o.rounds), make([]float64, o.rounds)
		for i := range o.rounds {
			began := time.Now()
			l, err := s.startLatchkey(ctx, p.name+" alone", p.path)
			if err != nil {
				return nil, err
			}
			starts[i] = benchkit.Millis(time.Since(began))
			err = benchkit.Pause(ctx, o.idle)
			resident, _, memErr := benchkit.Memory(l.PID)
			if err := errors.Join(err, memErr, l.End()); err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			idle[i] = float64(resident)
		}
		a.StartMillis, a.Idle = benchkit.Median(starts), int64(benchkit.Median(idle))
		all = append(all, a)
	}
	return all, nil
}

// printAlone writes the lines for people.
func printAlone(w io.Writer, all []*alone) error {
	t, err := benchkit.NewTable(w, "One replica that nobody calls", "", "start ms", "idle MiB", "binary MB")
	if err != nil {
		return err
	}
	for _, a := range all {
		t.Line(a.Name, fmt.Sprintf("%.0f", a.StartMillis), a.Idle>>20, fmt.Sprintf("%.1f", float64(a.Binary)/1e6))
	}
	return t.Flush()
}

// inProcess is authverify in the process of the service that calls it.
type inProcess struct {
	Nanos  float64 `json:"ns"`
	Allocs int64   `json:"allocations"`
}

// measureVerify times Verify of a token that it has seen before: the median of the rounds, a second each.
func (s *stack) measureVerify(ctx context.Context, o options) (_ *inProcess, err error) {
	conn, err := dialOne(s.measured.GRPC)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	verifier, err := newVerifier(conn, s.measured.HTTP) //nolint:contextcheck // what it does in the background ends with Close
	if err != nil {
		return nil, err
	}
	defer verifier.Close()
	if err := verifier.Ready(ctx); err != nil {
		return nil, err
	}
	token := s.accounts[0].token
	if _, err := verifier.Verify(ctx, token); err != nil {
		return nil, fmt.Errorf("a good token: %w", err)
	}
	nanos, r := make([]float64, o.rounds), &inProcess{}
	for i := range o.rounds {
		timed, err := timeVerify(ctx, verifier, token)
		if err != nil {
			return nil, err
		}
		nanos[i], r.Allocs = float64(timed.T.Nanoseconds())/float64(timed.N), max(r.Allocs, timed.AllocsPerOp())
	}
	r.Nanos = benchkit.Median(nanos)
	return r, nil
}

func timeVerify(ctx context.Context, verifier *authverify.Verifier, token string) (testing.BenchmarkResult, error) {
	var failed error
	timed := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		for b.Loop() {
			if _, err := verifier.Verify(ctx, token); err != nil {
				failed = err
				return
			}
		}
	})
	return timed, failed
}

// write writes the line for people.
func (r *inProcess) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "\nauthverify.Verify of a token that it has seen before\n\n  %.0f ns, %d allocations\n", r.Nanos, r.Allocs)
	return err
}
