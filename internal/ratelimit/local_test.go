package ratelimit

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Memory decides in the same way as the script.
func TestLocalTwin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		limiter, err := NewLocal(LocalConfig{Subjects: 100, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		rate := Rate{PerMinute: rapid.Uint32Range(1, 1000).Draw(t, "per minute"), Burst: rapid.Uint32Range(1, 20).Draw(t, "burst")}
		twin := gcraTwin{}
		for range 100 {
			subject := rapid.SampledFrom([]string{"192.0.2.1", "2001:db8::1"}).Draw(t, "subject")
			clock.Advance(rapid.SampledFrom([]time.Duration{
				0, 0, 0, time.Microsecond, time.Millisecond, time.Second, time.Minute, -time.Second,
			}).Draw(t, "pause"))
			want := twin.allow(subject, rate, clock.Now().UnixMicro())
			err := limiter.Allow("Logout", subject, rate)
			var limited *LimitedError
			switch {
			case want == 0 && err == nil:
			case want > 0 && errors.As(err, &limited) && limited.RetryAfter == time.Duration(want)*time.Microsecond:
			default:
				t.Fatalf("%v, want a wait of %d µs", err, want)
			}
		}
	})
}

// Parallel calls get no more than the burst.
func TestLocalAtOnce(t *testing.T) {
	t.Parallel()
	limiter, err := NewLocal(LocalConfig{Subjects: 100, Now: newClock().Now})
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 100 {
				if limiter.Allow("Logout", "192.0.2.1", Rate{PerMinute: 60, Burst: 50}) == nil {
					passed.Add(1)
				}
			}
		})
	}
	calls.Wait()
	if passed.Load() != 50 {
		t.Errorf("%d calls passed, want 50", passed.Load())
	}
}

// Strangers with many addresses do not fill the memory.
func TestLocalBounds(t *testing.T) {
	t.Parallel()
	limiter, err := NewLocal(LocalConfig{Subjects: 100, Now: newClock().Now})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		if err := limiter.Allow("Logout", strconv.Itoa(i), Rate{PerMinute: 60, Burst: 5}); err != nil {
			t.Fatal(err)
		}
	}
	limiter.arrivals.CleanUp()
	if n := limiter.arrivals.EstimatedSize(); n > 100 {
		t.Errorf("%d subjects are remembered", n)
	}
	if _, err := NewLocal(LocalConfig{}); err == nil {
		t.Error("a memory for nobody")
	}
	if err := limiter.Allow("Logout", "192.0.2.1", Rate{}); err == nil {
		t.Error("no rate is a rate")
	}
}
