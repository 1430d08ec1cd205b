package ratelimit

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// gcraTwin is gcra.lua in Go. The map holds theoretical arrival times in microseconds.
type gcraTwin map[string]int64

func (w gcraTwin) allow(key string, rate Rate, now int64) (wait int64) {
	interval := int64(math.Ceil(60e6 / float64(rate.PerMinute)))
	arrival := max(w[key], now)
	if earliest := arrival - interval*int64(rate.Burst-1); now < earliest {
		return earliest - now
	}
	w[key] = arrival + interval
	return 0
}

// compareGCRA compares the script with its twin. A key expires on the clock of Redis when it no longer matters on the
// clock of the calls. Here the clock of Redis does not follow the clock of the calls, so the script runs without
// expiry. TestGCRAExpiry tests the expiry.
func compareGCRA(t *testing.T, client *redis.Client, steps int) {
	t.Helper()
	refused, allowed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		clock := newClock()
		limiter, err := NewGCRA(GCRAConfig{Redis: client, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		timeless, _, found := strings.Cut(gcraLua, ", 'PX'")
		if !found {
			t.Fatal("the script sets no expiry")
		}
		limiter.script = redis.NewScript(timeless + ")\nreturn 0\n")
		rates := []Rate{
			{PerMinute: 60, Burst: 1},
			{PerMinute: rapid.Uint32Range(1, 1000).Draw(t, "per minute"), Burst: rapid.Uint32Range(1, 20).Draw(t, "burst")},
			{PerMinute: rapid.Uint32Range(1, 60_000_000).Draw(t, "any rate"), Burst: rapid.Uint32Range(1, 500_000).Draw(t, "any burst")},
		}
		twin := gcraTwin{}
		for range steps {
			rate := rapid.SampledFrom(rates).Draw(t, "rate")
			subject := rapid.SampledFrom([]string{"192.0.2.1", "2001:db8::1"}).Draw(t, "subject")
			clock.Advance(rapid.SampledFrom([]time.Duration{
				0, 0, 0, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour, -time.Second,
			}).Draw(t, "pause"))
			want := twin.allow(subject, rate, clock.Now().UnixMicro())
			err := limiter.Allow(t.Context(), "Login", subject, rate)
			var limited *LimitedError
			switch {
			case want == 0:
				allowed++
				if err != nil {
					t.Fatalf("%v, want nil", err)
				}
			case !errors.As(err, &limited) || limited.RetryAfter != time.Duration(want)*time.Microsecond:
				t.Fatalf("%v, want to be limited for %d µs", err, want)
			default:
				refused++
			}
		}
	})
	if !t.Failed() && allowed > 1000 && refused == 0 {
		t.Error("nothing was refused")
	}
	t.Logf("%d allowed, %d refused", allowed, refused)
}

func TestGCRATwin(t *testing.T) {
	t.Parallel()
	compareGCRA(t, newRedis(t), 100)
}

func TestGCRATwinOnMiniredis(t *testing.T) {
	t.Parallel()
	compareGCRA(t, newMiniredis(t), 30)
}

// The promise itself: between any two moments at most Burst calls pass, and as many as the rate adds in that time. A
// call that waits for RetryAfter passes.
func TestGCRARate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := Rate{PerMinute: rapid.Uint32Range(1, 600).Draw(t, "per minute"), Burst: rapid.Uint32Range(1, 10).Draw(t, "burst")}
		twin, now, passed := gcraTwin{}, int64(1e15), []int64{}
		for range 100 {
			now += rapid.Int64Range(0, 2*60e6/int64(rate.PerMinute)).Draw(t, "pause")
			if wait := twin.allow("", rate, now); wait > 0 {
				if wait > int64(math.Ceil(60e6/float64(rate.PerMinute))) {
					t.Fatalf("told to wait %d µs", wait)
				}
				now += wait
				if again := twin.allow("", rate, now); again > 0 {
					t.Fatalf("limited after having waited: %d µs", again)
				}
			}
			passed = append(passed, now)
			for i, since := range passed {
				earned := float64(now-since) * float64(rate.PerMinute) / 60e6
				if n := len(passed) - i; float64(n) > float64(rate.Burst)+earned {
					t.Fatalf("%d calls in %d µs", n, now-since)
				}
			}
		}
	})
}

func (b bench) gcra(t testing.TB) *GCRA {
	t.Helper()
	limiter, err := NewGCRA(GCRAConfig{Redis: b.client, Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return limiter
}

func TestGCRABurst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter, rate := b.gcra(t), Rate{PerMinute: 6, Burst: 3}
	allow := func(scope, subject string) error { return limiter.Allow(t.Context(), scope, subject, rate) }
	for range 3 {
		if err := allow("Login", "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		wantLimited(t, allow("Login", "192.0.2.1"), 10*time.Second)
	}
	if err := errors.Join(allow("Login", "192.0.2.2"), allow("SignUp", "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(10*time.Second - time.Microsecond)
	wantLimited(t, allow("Login", "192.0.2.1"), time.Microsecond)
	b.clock.Advance(time.Microsecond)
	if err := allow("Login", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	wantLimited(t, allow("Login", "192.0.2.1"), 10*time.Second)
}

func TestGCRAExpiry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter, rate := b.gcra(t), Rate{PerMinute: 6, Burst: 3}
	for n := range 3 {
		if err := limiter.Allow(t.Context(), "Login", "2001:db8::1", rate); err != nil {
			t.Fatal(err)
		}
		want := time.Duration(n+1) * 10 * time.Second
		ttl := b.client.PTTL(t.Context(), "latchkey:rate:Login:{2001:db8::1}").Val()
		if ttl > want || ttl < want-5*time.Second {
			t.Fatalf("expires in %v, want %v", ttl, want)
		}
	}
	// The shortest expiry and the longest.
	for subject, rate := range map[string]Rate{
		"short": {PerMinute: 60_000_000, Burst: 1},
		"long":  {PerMinute: 1, Burst: 366 * 24 * 60},
	} {
		if err := limiter.Allow(t.Context(), "Login", subject, rate); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

func TestGCRAParallel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiters := []*GCRA{b.gcra(t), b.gcra(t)}
	var allowed atomic.Int32
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			err := limiters[i%2].Allow(t.Context(), "Login", "192.0.2.1", Rate{PerMinute: 1, Burst: 20})
			var limited *LimitedError
			switch {
			case err == nil:
				allowed.Add(1)
			case !errors.As(err, &limited):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := allowed.Load(); n != 20 {
		t.Fatalf("%d calls passed", n)
	}
}

func TestGCRARefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.gcra(t)
	for _, rate := range []Rate{
		{},
		{PerMinute: 1},
		{Burst: 1},
		{PerMinute: 60_000_001, Burst: 1},
		{PerMinute: 1, Burst: 366*24*60 + 1},
		{PerMinute: 1, Burst: math.MaxUint32},
	} {
		var limited *LimitedError
		if err := limiter.Allow(t.Context(), "Login", "a", rate); err == nil || errors.As(err, &limited) {
			t.Errorf("%+v: %v", rate, err)
		}
	}
	rate := Rate{PerMinute: 1, Burst: 1}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := limiter.Allow(cancelled, "Login", "a", rate); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.clock.now = time.UnixMicro(maxClock + 1)
	if err := limiter.Allow(t.Context(), "Login", "a", rate); !errors.Is(err, errClock) {
		t.Errorf("a clock beyond its range: %v", err)
	}
	b.clock.now = time.UnixMicro(maxClock)
	if err := limiter.Allow(t.Context(), "Login", "a", Rate{PerMinute: 1, Burst: 366 * 24 * 60}); err != nil {
		t.Errorf("a clock at the end of its range: %v", err)
	}
	wantLimited(t, limiter.Allow(t.Context(), "Login", "a", rate), time.Minute)
	_ = b.client.Close()
	if err := limiter.Allow(t.Context(), "Login", "a", rate); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no Redis: %v", err)
	}
	if _, err := NewGCRA(GCRAConfig{}); err == nil {
		t.Error("a limiter without Redis")
	}
}
