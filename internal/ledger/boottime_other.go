//go:build !linux

package ledger

import "time"

// bootTime is the wall clock on systems that have no clock that counts while the machine sleeps and that is
// never set.
func bootTime() time.Duration {
	return time.Duration(time.Now().UnixNano()) //nolint:forbidigo // there is no other clock on this system
}
