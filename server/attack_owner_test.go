package server_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// Ten networks guess at the account, and two thousand strangers wait for a hash. A known client logs in a hundred
// times, and one login may fail. Strangers wait for five seconds, the owner as long as a busy machine needs: only a
// refusal is a failure, not a late answer.
//
//nolint:tparallel // one load at a time
func TestAttack07TheOwnerGetsIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		callers int
		pause   time.Duration
		attack  func(ctx context.Context, s *testenv.Server, n int) error
	}{
		{"ten networks guess at the account", 20, 20 * time.Millisecond, func(ctx context.Context, s *testenv.Server, n int) error {
			return tryLogin(from(ctx, network(n%10)), s, email, "wrong horse battery")
		}},
		{"two thousand strangers queue", 2000, 10 * time.Second, func(ctx context.Context, s *testenv.Server, n int) error {
			return tryLogin(from(ctx, network(n)), s, fmt.Sprintf("stranger%d@example.com", n), "wrong horse battery")
		}},
		{"one IPv6 network queues", 80, 20 * time.Millisecond, func(ctx context.Context, s *testenv.Server, n int) error {
			return tryLogin(from(ctx, fmt.Sprintf("2001:db8:7:%x::1", n)), s, fmt.Sprintf("stranger%d@example.com", n), "wrong horse battery")
		}},
	} {
		t.Run(test.name, func(t *testing.T) { //nolint:paralleltest // one load at a time
			s := testenv.Start(t, testenv.Options{
				TrustedProxies: anyAddress(), HashQueue: 64, Argon2: argon.Params{MemoryKiB: 8 << 10, Time: 1, Threads: 1},
			})
			signUp(t, s, email)
			resp, err := tryDevice(t.Context(), s, password, "")
			if err != nil {
				t.Fatal(err)
			}
			over := surround(t, test.callers, test.pause, func(ctx context.Context, n int) { _ = test.attack(ctx, s, n) })
			testenv.Eventually(t, patience, "strangers have called", func() bool { return s.Server.HashesMade() > 20 })
			failed, slowest := 0, time.Duration(0)
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				began := time.Now()
				next, err := tryDevice(from(ctx, "203.0.113.7"), s, password, resp.GetDeviceToken())
				cancel()
				slowest = max(slowest, time.Since(began))
				if err != nil {
					failed++
					t.Log(err)
					continue
				}
				resp = next
			}
			t.Logf("%d of 100 logins failed, the slowest took %v; %d calls of others meanwhile", failed, slowest, over())
			if failed > 1 {
				t.Errorf("%d of 100 logins failed", failed)
			}
		})
	}
}

// surround makes n callers call all the time, each with a deadline of five seconds and a pause after each call, like
// real clients. The result stops them and returns how often they called.
func surround(t *testing.T, n int, pause time.Duration, call func(ctx context.Context, n int)) (over func() int64) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var calls atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				within, cancel := context.WithTimeout(ctx, 5*time.Second)
				call(within, i)
				cancel()
				calls.Add(1)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(stop)
	return func() int64 {
		stop()
		wg.Wait()
		return calls.Load()
	}
}
