//go:build !linux

package argon2

import (
	"testing"
	"time"
)

// processorTime is the time since 1970: here it does not leave out other programs.
func processorTime(testing.TB) time.Duration { return time.Duration(time.Now().UnixNano()) }
