package authverify

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

const (
	backoffBase = 100 * time.Millisecond
	// backoffMax leaves three attempts within DefaultMaxStaleness.
	backoffMax = 3 * time.Second
)

// backoff is how long to wait after so many failures in a row: twice as long each time, and at random between
// the half of it and all of it, so that the watchers of a replica that went away do not come back all at
// once.
func backoff(failures int) time.Duration {
	limit := min(backoffBase<<min(failures, 10), backoffMax)
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	// 32 of the bits, in nanoseconds, are 4.3 s: more than the half of backoffMax.
	return limit/2 + time.Duration(binary.NativeEndian.Uint32(random[:]))%(limit/2)
}
