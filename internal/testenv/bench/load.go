package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// warmUp is the time before each measurement in which connections open and caches fill.
const warmUp = 500 * time.Millisecond

// result is one measurement.
type result struct {
	Requests  int     `json:"requests"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
}

// closedLoop lets each of the workers call again and again, and counts the calls that end within a window of that
// length after the warm-up. It calls back at both ends of the window, so that other counters cover the same time.
func closedLoop(ctx context.Context, workers int, window time.Duration, call func(ctx context.Context, worker int) error, mark func() error) (result, error) {
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
	err := pause(ctx, warmUp)
	if err == nil {
		err = mark()
	}
	begin := time.Now()
	measuring.Store(true)
	if err == nil {
		err = pause(ctx, window)
	}
	measuring.Store(false)
	seconds := time.Since(begin).Seconds()
	if err == nil {
		err = mark()
	}
	cancel(context.Canceled)
	working.Wait()
	if err != nil {
		return result{}, err
	}
	return summarise(slices.Concat(took...), seconds), nil
}

// pause waits. It fails with the first failed call, or when the caller's context ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func summarise(took []time.Duration, seconds float64) result {
	r := result{Requests: len(took), Seconds: seconds, PerSecond: float64(len(took)) / seconds}
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
