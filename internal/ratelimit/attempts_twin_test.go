package ratelimit

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// attemptsTwin is attempts.lua in Go, with two maps instead of one hash of strings.
type attemptsTwin struct {
	limit, total int
	window, hold int64
	failures     map[string]int64 // time
	reservations map[string]int64 // end
}

func newAttemptsTwin(limit, total int, window, hold int64) *attemptsTwin {
	return &attemptsTwin{
		limit: limit, total: total, window: window, hold: hold,
		failures: map[string]int64{}, reservations: map[string]int64{},
	}
}

func (w *attemptsTwin) run(operation, id string, now int64) int64 {
	switch operation {
	case "fail":
		delete(w.reservations, id)
		w.failures[id] = now
		w.leave(now)
		own, all := w.times(id, now)
		return int64(len(own)*failuresUnit + len(all))
	case "release":
		delete(w.reservations, id)
		delete(w.failures, id)
	case "succeed":
		delete(w.reservations, id)
		w.clear(id, now)
	default:
		return w.enter(operation, id, now)
	}
	return 0
}

// shares returns whether a failure counts against the source of id.
func (*attemptsTwin) shares(name, id string) bool {
	_, from, some := strings.Cut(name, "@")
	_, source, sent := strings.Cut(id, "@")
	return !some || !sent || from == source
}

// clear removes the failures that count against the source of id.
func (w *attemptsTwin) clear(id string, now int64) {
	for name := range w.failures {
		if w.shares(name, id) {
			delete(w.failures, name)
		}
	}
	for name, end := range w.reservations {
		if end <= now && w.shares(name, id) {
			delete(w.reservations, name)
		}
	}
}

// leave removes the failures that have left the window, and the reservations that became failures and have left it.
func (w *attemptsTwin) leave(now int64) {
	for name, at := range w.failures {
		if now >= at+w.window {
			delete(w.failures, name)
		}
	}
	for name, end := range w.reservations {
		if now >= end && now >= end-w.hold+w.window {
			delete(w.reservations, name)
		}
	}
}

// times returns the times of the failures that count against the source of id, and of all failures.
func (w *attemptsTwin) times(id string, now int64) (own, all []int64) {
	add := func(name string, at int64) {
		all = append(all, at)
		if w.shares(name, id) {
			own = append(own, at)
		}
	}
	for name, at := range w.failures {
		add(name, at)
	}
	for name, end := range w.reservations {
		if end <= now {
			add(name, end-w.hold)
		}
	}
	slices.Sort(own)
	slices.Sort(all)
	return own, all
}

func (w *attemptsTwin) carry(prefix string, n int, at int64) {
	for i := range n {
		name := prefix + strconv.Itoa(i+1)
		if held, found := w.failures[name]; !found || held < at {
			w.failures[name] = at
		}
	}
}

func (w *attemptsTwin) enter(operation, id string, now int64) int64 {
	w.leave(now)
	_, failed := w.failures[id]
	_, reserved := w.reservations[id]
	if failed || reserved {
		return 0
	}
	own, all := w.times(id, now)
	var wait int64
	if surplus := len(own) - w.limit; surplus >= 0 {
		wait = own[surplus] + w.window - now
	}
	if surplus := len(all) - w.total; surplus >= 0 {
		wait = max(wait, all[surplus]+w.window-now)
	}
	if wait > 0 {
		return wait
	}
	for name, end := range w.reservations {
		if end <= now {
			continue
		}
		all = append(all, end)
		if w.shares(name, id) {
			own = append(own, end)
		}
	}
	if len(own) >= w.limit || len(all) >= w.total {
		return -1
	}
	if operation == "take" {
		w.failures[id] = now
	} else {
		w.reservations[id] = now + w.hold
	}
	return 0
}

// compareAttempts runs the same operations on the script and its twin. It also checks the promise itself: no window has
// more failures than the limit, as long as no reservation expires before its verdict.
func compareAttempts(t *testing.T, client *redis.Client, steps int) {
	t.Helper()
	answers := map[int64]int{}
	rapid.Check(t, func(t *rapid.T) {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		clock := newClock()
		window := rapid.SampledFrom([]time.Duration{15 * time.Minute, time.Minute}).Draw(t, "window")
		hold := rapid.SampledFrom([]time.Duration{time.Minute, 10 * time.Second, 2 * time.Hour}).Draw(t, "hold")
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		total := rapid.IntRange(limit, 8).Draw(t, "total")
		limiter, err := NewAttempts(AttemptsConfig{
			Redis: client, Name: "twin", Key: make([]byte, 32), Limit: limit, Total: total, Window: window, Hold: hold, Now: clock.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		twin := newAttemptsTwin(limit, total, window.Milliseconds(), hold.Milliseconds())
		key := limiter.redisKey("someone@example.com")
		for step := range steps {
			operation := rapid.SampledFrom([]string{
				"reserve", "reserve", "reserve", "fail", "fail", "take", "release", "succeed", "carry", "wait", "lower the limit",
			}).Draw(t, "operation")
			// Verdicts are for one of the latest reservations, or for none. An entry may come twice, as when the driver
			// repeats a script.
			id := strconv.Itoa(max(0, step-rapid.IntRange(0, 12).Draw(t, "back")))
			source := rapid.SampledFrom([]string{"@a", "@a", "@b", "@c"}).Draw(t, "source")
			switch operation {
			case "reserve", "take":
				if rapid.IntRange(0, 9).Draw(t, "repeat") > 0 {
					id = strconv.Itoa(step)
				}
			case "wait":
				clock.Advance(rapid.SampledFrom([]time.Duration{
					time.Millisecond, time.Second, hold, hold - time.Millisecond, window / 3, window - time.Millisecond, window,
					-time.Second, // another replica, whose clock is behind
				}).Draw(t, "duration"))
				continue
			case "carry":
				prefix := rapid.SampledFrom([]string{"one:", "two:"}).Draw(t, "counter")
				n, now := rapid.IntRange(0, limit).Draw(t, "n"), clock.Now().UnixMilli()
				at := now - rapid.Int64Range(0, window.Milliseconds()).Draw(t, "age")
				for range rapid.IntRange(1, 2).Draw(t, "times") { // the driver's repeat changes nothing
					if err := limiter.carry(t.Context(), key, prefix, n, now, at); err != nil {
						t.Fatal(err)
					}
				}
				twin.carry(prefix, n, at)
				compareLog(t, client, key, twin)
				continue
			case "lower the limit":
				if limit > 1 && rapid.IntRange(0, 9).Draw(t, "rarely") == 9 {
					limit--
					limiter.limit, twin.limit = limit, limit
				}
				continue
			}
			id += source
			want := twin.run(operation, id, clock.Now().UnixMilli())
			got, err := limiter.run(t.Context(), operation, key, id)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("%s %s: %d, want %d", operation, id, got, want)
			}
			if operation != "fail" {
				answers[min(1, max(-1, got))]++
			}
			compareLog(t, client, key, twin)
		}
	})
	if !t.Failed() && (answers[-1] == 0 || answers[1] == 0) && answers[0] > 1000 {
		t.Errorf("answers %v: some case was never reached", answers)
	}
	t.Logf("waits %d, passes %d, refusals %d", answers[-1], answers[0], answers[1])
}

// compareLog compares the contents of Redis with the twin. Entries that have expired may still be there or not, on both
// sides.
func compareLog(t *rapid.T, client *redis.Client, key string, twin *attemptsTwin) {
	held, err := client.HGetAll(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for id, at := range twin.failures {
		want[id] = "f" + strconv.FormatInt(at, 10)
	}
	for id, end := range twin.reservations {
		want[id] = "r" + strconv.FormatInt(end, 10)
	}
	if len(held) != len(want) {
		t.Fatalf("Redis holds %v, want %v", held, want)
	}
	for id, value := range want {
		if held[id] != value {
			t.Fatalf("Redis holds %v, want %v", held, want)
		}
	}
}

func TestAttemptsTwin(t *testing.T) {
	t.Parallel()
	compareAttempts(t, newRedis(t), 60)
}

func TestAttemptsTwinOnMiniredis(t *testing.T) {
	t.Parallel()
	compareAttempts(t, newMiniredis(t), 20)
}

// The promise itself, in the words of the configuration, for attempts that are settled in time and a clock that is not
// set back: no window has more failures than the limit, and no attempt is refused without need.
func TestAttemptsWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const limit, window, hold = 3, 1000, 100
		log := newAttemptsTwin(limit, limit, window, hold)
		now, open, failures := int64(0), map[string]int64{}, []int64{}
		within := func() (n int) {
			for _, at := range failures {
				if at+window > now {
					n++
				}
			}
			return n
		}
		for step := range 200 {
			now += rapid.Int64Range(0, 60).Draw(t, "pause")
			for id, since := range open {
				if now-since >= hold {
					log.run("release", id, since+hold-1)
					delete(open, id)
				}
			}
			id := strconv.Itoa(step)
			switch answer := log.run("reserve", id, now); {
			case answer == 0:
				open[id] = now
			case answer > 0 && within() < limit:
				t.Fatalf("refused with %d failures in the window", within())
			case answer < 0 && within()+len(open) < limit:
				t.Fatalf("made to wait with %d failures and %d in flight", within(), len(open))
			}
			for id := range open {
				if rapid.Bool().Draw(t, "fail") {
					log.run("fail", id, now)
					delete(open, id)
					failures = append(failures, now)
				}
				break
			}
			if n := within(); n > limit {
				t.Fatalf("%d failures within %d", n, window)
			}
		}
	})
}
