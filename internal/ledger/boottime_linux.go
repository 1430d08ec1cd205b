package ledger

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads CLOCK_BOOTTIME. Go's own monotonic clock stops while the machine sleeps, so a lease would
// last longer than it should.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("ledger: CLOCK_BOOTTIME: " + err.Error()) // in every Linux since 2.6.39
	}
	return time.Duration(t.Nano())
}
