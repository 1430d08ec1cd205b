package ratelimit

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	subject = "ada@example.com"
	network = "192.0.2.1"
)

type bench struct {
	clock  *clock
	client *redis.Client
}

func setup(t *testing.T) bench {
	t.Helper()
	return bench{clock: newClock(), client: newRedis(t)}
}

// attempts returns the limiter of another replica.
func (b bench) attempts(t testing.TB) *Attempts {
	t.Helper()
	limiter, err := NewAttempts(AttemptsConfig{
		Redis: b.client, Name: "login", Key: bytes.Repeat([]byte{7}, 32), Now: b.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return limiter
}

func reserve(t testing.TB, limiter *Attempts) *Attempt {
	t.Helper()
	attempt, err := limiter.Reserve(t.Context(), subject, network)
	if err != nil {
		t.Fatal(err)
	}
	return attempt
}

func fail(t testing.TB, limiter *Attempts) {
	t.Helper()
	failed(t, reserve(t, limiter))
}

func failed(t testing.TB, attempt *Attempt) Failures {
	t.Helper()
	count, err := attempt.Fail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func asErr(_ Failures, err error) error { return err }

func wantLimited(t testing.TB, err error, after time.Duration) {
	t.Helper()
	var limited *LimitedError
	if !errors.As(err, &limited) || limited.RetryAfter != after {
		t.Fatalf("%v, want to be limited for %v", err, after)
	}
}

func TestAttemptsLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	for range 5 {
		fail(t, limiter)
		b.clock.Advance(time.Minute)
	}
	for range 3 {
		_, err := limiter.Reserve(t.Context(), subject, network)
		wantLimited(t, err, 10*time.Minute)
		wantLimited(t, limiter.Take(t.Context(), subject, network), 10*time.Minute)
	}
	if _, err := limiter.Reserve(t.Context(), "bob@example.com", network); err != nil {
		t.Fatalf("another subject: %v", err)
	}
	b.clock.Advance(10*time.Minute - time.Millisecond)
	_, err := limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, time.Millisecond)
	b.clock.Advance(time.Millisecond)
	fail(t, limiter)
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, time.Minute)
}

func TestAttemptsVerdicts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	for range 4 {
		fail(t, limiter)
	}
	for range 10 {
		if err := reserve(t, limiter).Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := reserve(t, limiter)
	if err := last.Succeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It is settled, so later calls are ignored.
	if count := failed(t, last); count != (Failures{}) {
		t.Errorf("settled, and yet a failure: %v", count)
	}
	if n := b.client.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys after a success", n)
	}
	for range 5 {
		if err := limiter.Take(t.Context(), subject, network); err != nil {
			t.Fatal(err)
		}
	}
	wantLimited(t, limiter.Take(t.Context(), subject, network), 15*time.Minute)
	other, err := NewAttempts(AttemptsConfig{Redis: b.client, Name: "forgot", Key: limiter.key, Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Take(t.Context(), subject, network); err != nil {
		t.Fatalf("another limiter: %v", err)
	}
	if key := other.redisKey(subject); !strings.HasPrefix(key, "latchkey:attempts:forgot:{") {
		t.Fatalf("another limiter has key %s", key)
	}
}

// A verdict counts even if its caller hung up. Otherwise a wrong password would be free for callers who hang up.
func TestVerdictOutlivesItsCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		attempt, err := limiter.Reserve(ctx, subject, network)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := attempt.Fail(ctx); err != nil {
			t.Fatal(err)
		}
	}
	_, err := limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 15*time.Minute)
}

// A guess that nobody has settled may have been checked, so it counts from its start. A replica that was only slow can
// still settle it.
func TestReservationsBecomeFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	var slow []*Attempt
	for range 5 {
		slow = append(slow, reserve(t, limiter))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := limiter.Reserve(ctx, subject, network)
	wantLimited(t, err, inFlightRetry)
	b.clock.Advance(time.Minute)
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 14*time.Minute)
	// Then its time is that of the verdict. The other four leave the window first.
	failed(t, slow[0])
	if err := slow[1].Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	fail(t, limiter)
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 14*time.Minute)
	b.clock.Advance(14 * time.Minute)
	if count := failed(t, reserve(t, limiter)); count != (Failures{Source: 3, All: 3}) {
		t.Errorf("%v count, want the two of a minute later and this one", count)
	}
}

// One source cannot lock out another. All together have a limit of their own. A success clears only the failures of its
// own source.
func TestSources(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	guess := func(source string) (Failures, error) {
		attempt, err := limiter.Reserve(t.Context(), subject, source)
		if err != nil {
			return Failures{}, err
		}
		return attempt.Fail(t.Context())
	}
	for source := range 10 {
		name := "198.51.100." + strconv.Itoa(source)
		for i := range 5 {
			count, err := guess(name)
			if err != nil || count != (Failures{Source: i + 1, All: 5*source + i + 1}) {
				t.Fatalf("failure %d of source %d: %v, %v", i, source, count, err)
			}
		}
		if source < 9 {
			_, err := guess(name)
			wantLimited(t, err, 15*time.Minute)
			b.clock.Advance(time.Second)
		}
	}
	_, err := limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 15*time.Minute-9*time.Second) // the fifty of all sources
	b.clock.Advance(15*time.Minute - 9*time.Second)
	for range 2 {
		fail(t, limiter)
	}
	if err := reserve(t, limiter).Succeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if count := failed(t, reserve(t, limiter)); count != (Failures{Source: 1, All: 46}) {
		t.Errorf("%v count after a success, want those of the nine other sources", count)
	}
	for name := range b.client.HGetAll(t.Context(), limiter.redisKey(subject)).Val() {
		if strings.Contains(name, network) {
			t.Errorf("%s tells where a guess came from", name)
		}
	}
}

// Failures that a replica of the version before wrote count against every source.
func TestFailuresWithoutSource(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	for i := range 4 {
		b.client.HSet(t.Context(), limiter.redisKey(subject), "older"+strconv.Itoa(i), "f"+strconv.FormatInt(b.clock.Now().UnixMilli(), 10))
	}
	fail(t, limiter)
	for _, source := range []string{network, "198.51.100.1", ""} {
		_, err := limiter.Reserve(t.Context(), subject, source)
		if source == network {
			wantLimited(t, err, 15*time.Minute)
		} else if err != nil {
			t.Errorf("%q: %v", source, err)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	for range 5 {
		reserve(t, limiter)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	_, err := limiter.Reserve(ctx, subject, network)
	var limited *LimitedError
	if !errors.Is(err, context.Canceled) || errors.As(err, &limited) {
		t.Fatalf("%v, want the context's error", err)
	}
}

// A wait ends as soon as a place is free.
func TestWaitEndsWithAVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	var open []*Attempt
	for range 5 {
		open = append(open, reserve(t, limiter))
	}
	got := make(chan error)
	go func() {
		_, err := limiter.Reserve(t.Context(), subject, network)
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := open[0].Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// parallel makes n attempts at once, spread over three replicas.
func (b bench) parallel(t *testing.T, n int, verdict func(i int, attempt *Attempt) error) []error {
	t.Helper()
	replicas := []*Attempts{b.attempts(t), b.attempts(t), b.attempts(t)}
	results := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			attempt, err := replicas[i%len(replicas)].Reserve(t.Context(), subject, network)
			if err == nil {
				time.Sleep(time.Millisecond) // the work that is being limited
				err = verdict(i, attempt)
			}
			results[i] = err
		})
	}
	group.Wait()
	return results
}

func TestParallelWrongAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	failed := 0
	for _, err := range b.parallel(t, 200, func(_ int, a *Attempt) error { return asErr(a.Fail(t.Context())) }) {
		if err == nil {
			failed++
			continue
		}
		wantLimited(t, err, 15*time.Minute)
	}
	if failed != 5 {
		t.Fatalf("%d attempts got to fail", failed)
	}
}

func TestParallelRightAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 4 {
		fail(t, b.attempts(t)) // so that only one passes at first
	}
	for i, err := range b.parallel(t, 200, func(_ int, a *Attempt) error { return a.Succeed(t.Context()) }) {
		if err != nil {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	if n := b.client.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys are left", n)
	}
}

// Calls that are refused because of overload give their places back. The others get them, and only five fail.
func TestParallelMixedAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	failed := 0
	for _, err := range b.parallel(t, 100, func(i int, a *Attempt) error {
		if i%2 == 0 {
			return a.Release(t.Context())
		}
		mu.Lock()
		failed++
		mu.Unlock()
		return asErr(a.Fail(t.Context()))
	}) {
		if err != nil {
			wantLimited(t, err, 15*time.Minute)
		}
	}
	if failed != 5 {
		t.Fatalf("%d attempts got to fail", failed)
	}
}

func TestParallelTakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	errs := make(chan error)
	for range 100 {
		go func() { errs <- limiter.Take(t.Context(), subject, network) }()
	}
	taken := 0
	for range 100 {
		if err := <-errs; err == nil {
			taken++
		} else {
			wantLimited(t, err, 15*time.Minute)
		}
	}
	if taken != 5 {
		t.Fatalf("%d were taken", taken)
	}
}

// Redis has no address, its keys expire, and it keeps failures as long as they count.
func TestAttemptsInRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	fail(t, limiter)
	keys := b.client.Keys(t.Context(), "*").Val()
	if len(keys) != 1 || !strings.HasPrefix(keys[0], "latchkey:attempts:login:{") || !strings.HasSuffix(keys[0], "}") {
		t.Fatalf("keys %v", keys)
	}
	if strings.Contains(keys[0], "ada") || strings.Contains(keys[0], "example") {
		t.Fatalf("%s tells the address", keys[0])
	}
	open := reserve(t, limiter)
	for _, step := range []func(){
		func() { _, _ = open.Fail(t.Context()) },
		func() { reserve(t, limiter) },
		func() { fail(t, limiter) },
		func() { _ = limiter.Take(t.Context(), subject, network) },
	} {
		b.client.Persist(t.Context(), keys[0])
		step()
		ttl := b.client.PTTL(t.Context(), keys[0]).Val()
		if ttl < 15*time.Minute || ttl > 15*time.Minute+expiryMargin {
			t.Errorf("expires in %v", ttl)
		}
	}
	otherKey, err := NewAttempts(AttemptsConfig{Redis: b.client, Name: "login", Key: bytes.Repeat([]byte{8}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if otherKey.redisKey(subject) == keys[0] {
		t.Error("the hash does not depend on the key")
	}
}

func TestAttemptsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	attempt := reserve(t, limiter)
	_ = b.client.Close()
	_, reserveErr := limiter.Reserve(t.Context(), subject, network)
	for call, err := range map[string]error{
		"Reserve": reserveErr,
		"Take":    limiter.Take(t.Context(), subject, network),
		"Fail":    asErr(attempt.Fail(t.Context())),
		"Succeed": attempt.Succeed(t.Context()), // not settled: the verdict can be tried again
		"Release": attempt.Release(t.Context()),
	} {
		var limited *LimitedError
		if !errors.Is(err, ErrUnavailable) || errors.As(err, &limited) {
			t.Errorf("%s: %v, want ErrUnavailable", call, err)
		}
	}
	b.clock.now = time.Time{}
	if err := limiter.Take(t.Context(), subject, network); !errors.Is(err, errClock) {
		t.Errorf("no clock: %v", err)
	}
}

func TestNewAttemptsRefuses(t *testing.T) {
	t.Parallel()
	client := newMiniredis(t)
	for name, change := range map[string]func(*AttemptsConfig){
		"no Redis":          func(c *AttemptsConfig) { c.Redis = nil },
		"no name":           func(c *AttemptsConfig) { c.Name = "" },
		"a brace":           func(c *AttemptsConfig) { c.Name = "a{b" },
		"a short key":       func(c *AttemptsConfig) { c.Key = c.Key[1:] },
		"a negative limit":  func(c *AttemptsConfig) { c.Limit = -1 },
		"a large limit":     func(c *AttemptsConfig) { c.Limit = maxLimit + 1 },
		"a low total":       func(c *AttemptsConfig) { c.Limit, c.Total = 5, 4 },
		"a large total":     func(c *AttemptsConfig) { c.Total = maxLimit + 1 },
		"a tiny window":     func(c *AttemptsConfig) { c.Window = time.Microsecond },
		"a huge window":     func(c *AttemptsConfig) { c.Window = maxSpan + 1 },
		"a negative window": func(c *AttemptsConfig) { c.Window = -time.Minute },
		"a negative hold":   func(c *AttemptsConfig) { c.Hold = -time.Minute },
		"a huge hold":       func(c *AttemptsConfig) { c.Hold = maxSpan + 1 },
	} {
		cfg := AttemptsConfig{Redis: client, Name: "login", Key: make([]byte, 32)}
		change(&cfg)
		if _, err := NewAttempts(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Failures from another counter take places like others, once, and leave the window when that counter ends.
func TestCarry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limiter := b.attempts(t)
	carry := func(source string, n int, ends time.Duration) {
		t.Helper()
		if err := limiter.Carry(t.Context(), subject, source, n, ends); err != nil {
			t.Fatal(err)
		}
	}
	carry("old", 0, time.Minute)
	carry("old", -7, time.Minute)
	carry("old", 5, 0)
	carry("old", 5, -time.Second)
	if n := b.client.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys for nothing", n)
	}
	for range 3 {
		carry("old", 3, 10*time.Minute)
	}
	fail(t, limiter)
	carry("old", 3, 10*time.Minute)
	fail(t, limiter)
	_, err := limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 10*time.Minute)
	carry("old", 4, 10*time.Minute-time.Second) // it has grown
	b.clock.Advance(10*time.Minute - time.Second)
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, time.Second)
	b.clock.Advance(time.Second)
	// The two failures of this limiter are left.
	if err := reserve(t, limiter).Succeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	carry("old", 2, time.Hour) // never longer than the window
	carry("other", 1_000_000, time.Minute)
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, time.Minute) // seven: a place is free when the first five have left
	b.clock.Advance(time.Minute)
	for range 3 {
		fail(t, limiter)
	}
	_, err = limiter.Reserve(t.Context(), subject, network)
	wantLimited(t, err, 14*time.Minute)
	for _, name := range b.client.HKeys(t.Context(), limiter.redisKey(subject)).Val() {
		if strings.Contains(name, "old") || strings.Contains(name, "other") {
			t.Errorf("%s tells its source", name)
		}
	}
	_ = b.client.Close()
	if err := limiter.Carry(t.Context(), subject, "old", 1, time.Minute); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no Redis: %v", err)
	}
}
