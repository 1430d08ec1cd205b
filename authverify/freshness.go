package authverify

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// freshness knows when revocations were last proven to be up to date.
type freshness struct {
	limit    time.Duration
	failOpen bool
	tell     func(fresh bool)
	log      *slog.Logger
	now      func() time.Time

	proof atomic.Pointer[time.Time] // nil if there is none
	told  atomic.Bool
	mu    sync.Mutex // keeps changes of told in order
}

// prove records that at this time all revocations were known that the replica knew.
func (f *freshness) prove(at time.Time) { f.proof.Store(&at) }

// distrust drops the proof: something was revoked, and this version cannot say what.
func (f *freshness) distrust() { f.proof.Store(nil) }

// staleness returns the age of the newest proof, or the longest duration if there is none.
func (f *freshness) staleness(now time.Time) time.Duration {
	proof := f.proof.Load()
	if proof == nil {
		return math.MaxInt64
	}
	return elapsed(*proof, now)
}

// elapsed returns the time between two moments, on the monotonic clock or on the wall clock: the longer one
// counts, since the first clock stops while a machine sleeps, and the second can be set.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)), 0)
}

// check returns whether revocations are up to date, and logs when that changes.
func (f *freshness) check(now time.Time) bool {
	fresh := f.staleness(now) <= f.limit
	if fresh != f.told.Load() {
		f.change()
	}
	return fresh
}

func (f *freshness) change() {
	f.mu.Lock()
	defer f.mu.Unlock()
	staleness := f.staleness(f.now())
	fresh := staleness <= f.limit
	if fresh == f.told.Load() {
		return // another goroutine was faster
	}
	f.told.Store(fresh)
	if fresh {
		f.log.Info("revocations are up to date")
	} else {
		f.log.Error("revocations are not up to date", "limit", f.limit, "fail_open", f.failOpen)
	}
	if f.tell != nil {
		f.tell(fresh)
	}
}
