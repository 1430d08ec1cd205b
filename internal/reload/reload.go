// Package reload lets many callers share one read of something that is slow to read, such as signing keys. There is one
// read at a time, and at most one per interval for all callers together. Anybody can send a token with an unknown key
// id, so without a limit strangers could make a service read as often as they like.
package reload

import (
	"sync"
	"time"
)

// Attempt is one read. Callers that wait for it use Done and Err. The code that reads calls End, once.
type Attempt struct {
	asked   time.Time
	started bool // Gate.mu guards it
	done    chan struct{}
	err     error // readable after done was closed
}

// Done is closed when the read has ended.
func (a *Attempt) Done() <-chan struct{} { return a.done }

// Err returns the error of the read, or nil. Call it after Done.
func (a *Attempt) Err() error { return a.err }

// End ends the read with its error, or nil.
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

// Gate decides when a new Attempt may start. It is safe for concurrent use. Do not copy it.
type Gate struct {
	// Interval is the shortest time between two Attempts that Join returns as new, if the first has ended.
	Interval time.Duration

	mu   sync.Mutex
	last *Attempt // the newest, or nil
}

// Join returns the newest Attempt if it has not ended or was asked for less than Interval before now, and a new one
// otherwise. The caller must make sure that a new one is read. A clock that was set back does not delay a new one.
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

// Renew is for a caller that knows that a read which started before now is out of date. From now on Join returns an
// Attempt that has not started. Renew returns whether that one is new: then the caller must make sure that it is read.
func (g *Gate) Renew(now time.Time) (isNew bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil && !g.last.started {
		return false
	}
	g.renew(now)
	return true
}

// Begin returns the Attempt for which to read: the one that was asked for and has not started, or else a new one.
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

// LastErr returns the error of the newest Attempt. It returns nil if that has no error, or has not ended.
func (g *Gate) LastErr() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || !g.last.ended() {
		return nil
	}
	return g.last.err
}
