package ledger

import (
	"sync/atomic"
	"time"
)

// maxSkew is how far the wall clock may be from PostgreSQL's. Tokens expire by the
// wall clock and rows are forgotten by PostgreSQL's: margin covers the difference.
const maxSkew = 30 * time.Second

// moment is one reading of both clocks.
type moment struct {
	boot time.Duration
	wall time.Time
}

// trust is the lease on memory. It ends by whichever of two clocks is faster: one
// that goes on while the machine sleeps, and the wall clock, should the first be
// broken.
type trust struct {
	boot  func() time.Duration
	wall  func() time.Time
	until atomic.Pointer[moment]
}

func (t *trust) now() moment { return moment{t.boot(), t.wall()} }

// grant trusts memory from what was read at "at" on: not from when the answer came,
// since what was committed in between is not in it.
func (t *trust) grant(at moment, lease time.Duration) {
	t.until.Store(&moment{at.boot + lease, at.wall.Add(lease)})
}

func (t *trust) drop() { t.until.Store(nil) }

func (t *trust) valid() bool {
	until := t.until.Load()
	if until == nil {
		return false
	}
	now := t.now()
	return now.boot < until.boot && now.wall.Before(until.wall)
}
