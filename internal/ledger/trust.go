package ledger

import (
	"sync/atomic"
	"time"
)

// maxSkew is how far the wall clock may be from PostgreSQL's. Tokens expire according to the wall clock, and
// memory drops rows according to PostgreSQL's: margin covers the difference.
const maxSkew = 30 * time.Second

// moment is one reading of both clocks.
type moment struct {
	boot time.Duration
	wall time.Time
}

// lease is how long this process may answer from memory. It expires on the faster of two clocks: one that
// also counts while the machine sleeps, and the wall clock, in case the first is broken.
type lease struct {
	boot  func() time.Duration
	wall  func() time.Time
	until atomic.Pointer[moment]
}

func (t *lease) now() moment { return moment{t.boot(), t.wall()} }

// grant starts the lease when the question was sent (at), not when the answer came: a row that was committed
// in between is not in memory.
func (t *lease) grant(at moment, length time.Duration) {
	t.until.Store(&moment{at.boot + length, at.wall.Add(length)})
}

func (t *lease) drop() { t.until.Store(nil) }

func (t *lease) valid() bool {
	until := t.until.Load()
	if until == nil {
		return false
	}
	now := t.now()
	return now.boot < until.boot && now.wall.Before(until.wall)
}
