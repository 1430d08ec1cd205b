package benchkit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// warmUp is the time before each measurement in which connections open and caches fill.
const warmUp = 500 * time.Millisecond

// Result is one measurement. P50 and P99 are in milliseconds.
type Result struct {
	Requests  int     `json:"requests"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
}

// ClosedLoop lets each of the workers call again and again, and counts the calls that end within a window of that
// length after the warm-up. It calls back at both ends of the window, so that other counters cover the same time.
func ClosedLoop(ctx context.Context, workers int, window time.Duration, call func(ctx context.Context, worker int) error, mark func() error) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var measuring atomic.Bool
	took := make([][]time.Duration, workers)
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if err := call(ctx, w); err != nil {
					if ctx.Err() == nil {
						cancel(err)
					}
					return
				}
				if measuring.Load() {
					took[w] = append(took[w], time.Since(start))
				}
			}
		})
	}
	err := Pause(ctx, warmUp)
	if err == nil {
		err = mark()
	}
	begin := time.Now()
	measuring.Store(true)
	if err == nil {
		err = Pause(ctx, window)
	}
	measuring.Store(false)
	seconds := time.Since(begin).Seconds()
	if err == nil {
		err = mark()
	}
	cancel(context.Canceled)
	working.Wait()
	if err != nil {
		return Result{}, err
	}
	return Summarise(slices.Concat(took...), seconds), nil
}

// Pause waits. It fails with the first failed call, or when the caller's context ends.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Summarise returns the figures of calls that took these times, which it sorts.
func Summarise(took []time.Duration, seconds float64) Result {
	r := Result{Requests: len(took), Seconds: seconds, PerSecond: float64(len(took)) / seconds}
	if len(took) == 0 {
		return r
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
	}
	r.P50, r.P99 = at(.5), at(.99)
	return r
}

// Median returns the value in the middle, and sorts the values. There must be one.
func Median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// MedianOf returns the median of a figure of the rounds.
func MedianOf[R any](rounds []R, read func(R) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = read(r)
	}
	return Median(values)
}

// Millis returns a time in milliseconds.
func Millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
