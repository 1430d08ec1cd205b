package argon2

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what this process has used of the processors so far: other programs do not count.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}
