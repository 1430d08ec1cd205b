package testenv_test

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// recorder is a test that may fail without failing this one.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.mu.Lock()
	r.failed = strings.TrimSpace(strings.Join([]string{format, joined(args)}, " "))
	r.mu.Unlock()
	runtime.Goexit()
}

func joined(args []any) string {
	var words []string
	for _, arg := range args {
		if text, ok := arg.(string); ok {
			words = append(words, text)
		}
	}
	return strings.Join(words, " ")
}

// try runs f as a separate test and returns why that failed.
func try(t *testing.T, f func(t testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.failed
}

func TestClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := testenv.NewClock(start)
	for range 2 {
		if now := clock.Now(); !now.Equal(start) {
			t.Errorf("by itself the clock moved to %s", now)
		}
	}
	if now := clock.Advance(time.Hour); !now.Equal(start.Add(time.Hour)) || !clock.Now().Equal(now) {
		t.Errorf("after an hour it shows %s", now)
	}
	clock.Set(start)
	var moving sync.WaitGroup
	for range 50 {
		moving.Go(func() {
			for range 1000 {
				clock.Advance(time.Millisecond)
				clock.Now()
			}
		})
	}
	moving.Wait()
	if want := start.Add(50 * time.Second); !clock.Now().Equal(want) {
		t.Errorf("after 50,000 steps at once it shows %s, want %s", clock.Now(), want)
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	calls := 0
	testenv.Eventually(t, time.Minute, "the third call", func() bool {
		calls++
		return calls == 3
	})
	failed := try(t, func(t testing.TB) {
		t.Helper()
		testenv.Eventually(t, 10*time.Millisecond, "pigs fly", func() bool { return false })
	})
	if !strings.Contains(failed, "pigs fly") {
		t.Errorf("what never comes true fails with %q", failed)
	}
}
