// Package reload lets many callers share one reading of something that is slow to read, such as signing keys:
// one reading at a time, and a new one at most once per interval for all callers together. Anybody can send a
// token with an unknown key id, so without a bound strangers could make a service read as often as they like.
package reload

import (
	"sync"
	"time"
)

// Attempt is one reading. Done and Err serve those who wait for it; whoever reads calls End, once.
type Attempt struct {
	asked   time.Time
	started bool // Gate.mu guards it
	done    chan struct{}
	err     error // readable once done is closed
}

// Done is closed when the reading has ended.
func (a *Attempt) Done() <-chan struct{} { return a.done }

// Err is why the reading failed, or nil. Call it after Done.
func (a *Attempt) Err() error { return a.err }

// End reports how the reading ended.
func (a *Attempt) End(err error) {
	a.err = err
	close(a.done)
}

func (a *Attempt) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Gate decides when a new Attempt may begin. It is safe for concurrent use; it must not be copied.
type Gate struct {
	// Interval is the least time from one Attempt that Join returns as new to the next, if the first has
	// ended.
	Interval time.Duration

	mu   sync.Mutex
	last *Attempt // the newest, or nil
}

// Join returns the newest Attempt if it has not ended or was asked for less than Interval before now, and a
// new one otherwise. For a new one the caller must see to it that it is read. A clock that was set back does
// not hold up a new one.
func (g *Gate) Join(now time.Time) (a *Attempt, isNew bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil {
		age := now.Sub(g.last.asked)
		if !g.last.ended() || age >= 0 && age < g.Interval {
			return g.last, false
		}
	}
	g.renew(now)
	return g.last, true
}

// Renew is for a caller who knows that a reading which began before now is out of date: from now on Join
// returns an Attempt that has not begun. It reports whether that is a new one, which the caller must see to.
func (g *Gate) Renew(now time.Time) (isNew bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil && !g.last.started {
		return false
	}
	g.renew(now)
	return true
}

// Begin returns the Attempt to read for: the one that was asked for and has not begun, or else a new one.
func (g *Gate) Begin(now time.Time) *Attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || g.last.started {
		g.renew(now)
	}
	g.last.started = true
	return g.last
}

// renew makes a new Attempt the newest. g.mu must be held.
func (g *Gate) renew(now time.Time) { g.last = &Attempt{asked: now, done: make(chan struct{})} }

// LastErr is why the newest Attempt failed; nil if it did not, or has not ended.
func (g *Gate) LastErr() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || !g.last.ended() {
		return nil
	}
	return g.last.err
}
