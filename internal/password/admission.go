package password

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// smoothing is the weight of a new measurement in the running average.
	smoothing = 0.25
	// outlier caps a measurement at this multiple of the average: a machine that
	// stood still for seconds during one hash raises the estimate by a quarter
	// and not a hundredfold, which would turn everybody away.
	outlier = 2
	// probeEvery lets one call through on an idle machine although the estimate
	// says that it will be late. Without it, an estimate that is too high could
	// never be corrected, since only hashing measures.
	probeEvery = time.Second

	minRetryAfter = time.Second
	maxRetryAfter = 30 * time.Second
)

// admission gives out a fixed number of slots in the order of arrival to a
// bounded number of waiting callers, and turns away at once whoever could not
// finish before its deadline. Work is counted in units of one KiB
// and one pass of Argon2.
type admission struct {
	slots int
	queue int
	now   func() time.Time

	mu      sync.Mutex
	running []*ticket // at most slots
	waiting []*ticket // at most queue, first come first; empty while a slot is free
	paces   [engines]pace
	totals  Stats // only its sums are kept up
}

// pace is how fast this machine computes the hashes of one engine. Each is measured
// by its own hashes only: were they mixed, a processor without instructions for SHA
// would make Argon2 look slow, and turn its callers away.
type pace struct {
	rate   float64   // running average of nanoseconds per unit
	probed time.Time // last measurement or probe
}

// ticket is one caller's claim to a slot.
type ticket struct {
	by      Claim
	work    work
	arrived time.Time
	started time.Time     // when the slot was given; zero while waiting
	ready   chan struct{} // closed when a waiting ticket is given its slot
}

func newAdmission(slots, queue int, now func() time.Time, rate float64) *admission {
	a := &admission{slots: slots, queue: queue, now: now}
	for i := range a.paces {
		a.paces[i] = pace{rate: rate, probed: now()}
	}
	return a
}

// acquire returns a ticket that holds a slot and must be given to release. It
// fails with *OverloadedError, or with ctx.Err() if ctx ends first.
func (a *admission) acquire(ctx context.Context, by Claim, w work) (*ticket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &ticket{by: by, work: w, ready: make(chan struct{})}
	mustWait, err := a.enter(ctx, t)
	if err != nil {
		return nil, err
	}
	if !mustWait {
		return t, nil
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
	}
	if err := a.wake(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// release passes the slot on to the caller that has waited longest.
func (a *admission) release(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free(t, a.now())
}

// measured takes the time that one hash took into the running average.
func (a *admission) measured(w work, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.totals.Hashed++
	if took <= 0 { // a clock that stands still or was set back tells nothing
		return
	}
	a.totals.HashingTime += took
	p := &a.paces[w.engine]
	sample := min(float64(took)/float64(w.units), outlier*p.rate)
	p.rate += smoothing * (sample - p.rate)
	p.probed = a.now()
}

func (a *admission) stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.totals
	s.Slots, s.Queue = a.slots, a.queue
	s.InUse, s.Waiting = len(a.running), len(a.waiting)
	return s
}

// enter gives t a slot, puts it at the end of the queue, or turns it away.
func (a *admission) enter(ctx context.Context, t *ticket) (mustWait bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	t.arrived = now
	own := a.estimate(t.work)
	if len(a.running) < a.slots {
		if late(ctx, now, own) && !a.probe(t.work.engine, now) {
			return false, a.turnAway(now)
		}
		a.start(t, now)
		return false, nil
	}
	if len(a.waiting) >= a.queue || late(ctx, now, a.delay(now)+own) {
		return false, a.turnAway(now)
	}
	a.waiting = append(a.waiting, t)
	return true, nil
}

// wake settles what becomes of a ticket that waited: ready, ctx, or both at once
// may have ended its wait. A slot that was given to it goes on to the next if it
// cannot be used any more, also when the wait was longer than foreseen: work
// that will be late anyway must not make those behind it late too.
func (a *admission) wake(ctx context.Context, t *ticket) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.totals.WaitingTime += now.Sub(t.arrived)
	if err := ctx.Err(); err != nil {
		a.totals.Abandoned++
		if i := slices.Index(a.waiting, t); i >= 0 {
			a.waiting = slices.Delete(a.waiting, i, i+1)
		} else {
			a.free(t, now)
		}
		return err
	}
	if late(ctx, now, a.estimate(t.work)) {
		a.free(t, now)
		return a.turnAway(now)
	}
	return nil
}

func (a *admission) start(t *ticket, now time.Time) {
	t.started = now
	a.running = append(a.running, t)
}

// free hands the slot straight to the first in the queue: were it only marked
// as free, a newcomer could overtake.
func (a *admission) free(t *ticket, now time.Time) {
	i := slices.Index(a.running, t)
	a.running = slices.Delete(a.running, i, i+1)
	if len(a.waiting) == 0 {
		return
	}
	next := a.waiting[0]
	a.waiting = slices.Delete(a.waiting, 0, 1)
	a.start(next, now)
	close(next.ready)
}

// probe reports whether to try a call on an idle machine against the estimate.
func (a *admission) probe(e engine, now time.Time) bool {
	p := &a.paces[e]
	if len(a.running) > 0 || now.Sub(p.probed) < probeEvery {
		return false
	}
	p.probed = now
	return true
}

// delay foretells when a caller that joined the queue now would get its slot, by
// playing through what runs and waits. That is more exact than the sum over the
// slots, which turns away callers that would have made it when costs differ.
func (a *admission) delay(now time.Time) time.Duration {
	busy := make([]time.Duration, len(a.running))
	for i, t := range a.running {
		busy[i] = a.remaining(t, now)
	}
	for _, t := range a.waiting {
		first := 0
		for i := range busy {
			if busy[i] < busy[first] {
				first = i
			}
		}
		busy[first] += a.estimate(t.work)
	}
	return slices.Min(busy)
}

// turnAway counts a refusal and says when the work ahead will be done.
func (a *admission) turnAway(now time.Time) error {
	a.totals.TurnedAway++
	var ahead time.Duration
	for _, t := range a.running {
		ahead += a.remaining(t, now)
	}
	for _, t := range a.waiting {
		ahead += a.estimate(t.work)
	}
	ahead /= time.Duration(a.slots)
	seconds := time.Duration(math.Ceil(ahead.Seconds())) * time.Second
	return &OverloadedError{RetryAfter: min(max(seconds, minRetryAfter), maxRetryAfter)}
}

func (a *admission) estimate(w work) time.Duration {
	return time.Duration(float64(w.units) * a.paces[w.engine].rate)
}

func (a *admission) remaining(t *ticket, now time.Time) time.Duration {
	return max(0, a.estimate(t.work)-now.Sub(t.started))
}

// late reports whether work that takes this long from now misses the deadline.
func late(ctx context.Context, now time.Time, work time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && now.Add(work).After(deadline)
}
