package password

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// smoothing is the weight of a new measurement in the running average.
	smoothing = 0.25
	// outlier caps a measurement at this multiple of the average. If the machine stops for seconds during one hash, the
	// estimate rises by a quarter, and not a hundredfold, which would turn everybody away.
	outlier = 2
	// probeEvery lets one call through on an idle machine although the estimate says that it will be late.
	// Without it, an estimate that is too high could never be corrected, since only hashing measures.
	probeEvery = time.Second

	// Callers that are turned away come back one after the other, from minRetryAfter or the end of the work ahead to
	// maxRetryAfter. If that is full, the next ones are distributed over the same time again.
	minRetryAfter = time.Second
	maxRetryAfter = 30 * time.Second
)

// admission gives a fixed number of slots to a bounded number of waiting callers, in turns. It refuses a caller at once
// if the caller cannot finish before its deadline. Later arrivals can push a waiting caller past its deadline, or out
// of a full queue, if their networks have fewer calls than its own. Work is counted in units of one KiB and one pass of
// Argon2.
//
// No slot is kept free for known clients, since an idle processor serves nobody. They get the next slots that become
// free: each waits for one hash of a stranger at most, if there are no more known clients than slots.
type admission struct {
	slots int
	queue int
	now   func() time.Time

	mu      sync.Mutex
	running []*ticket // at most slots
	waiting *turns    // at most queue; empty while a slot is free
	coming  *turns    // at most slots and queue together; only counted, nobody's turn comes
	paces   [engines]pace
	totals  Stats     // only its sums are kept up
	invited time.Time // when the stranger that was turned away last may come back
}

// pace is how fast this machine computes the hashes of one engine. Each engine is measured by its own hashes only. With
// a common measure, a processor without instructions for SHA would make Argon2 look slow, and its callers would be
// turned away.
type pace struct {
	rate   float64   // running average of nanoseconds per unit
	best   float64   // the lowest average so far; 0: none
	probed time.Time // last measurement or probe
}

// ticket is one caller's claim to a slot.
type ticket struct {
	by       Claim
	work     work
	deadline time.Time // zero: none
	arrived  time.Time
	started  time.Time     // when the slot was given; zero while waiting
	ready    chan struct{} // closed when a waiting ticket is given its slot or refused
	refused  error         // why it had to leave the queue for others
}

func newAdmission(slots, queue int, now func() time.Time, rate float64) *admission {
	a := &admission{slots: slots, queue: queue, now: now, waiting: newTurns(), coming: newTurns()}
	for i := range a.paces {
		a.paces[i] = pace{rate: rate, probed: now()}
	}
	return a
}

// acquire returns a ticket that holds a slot and must be given to release. It fails with *OverloadedError, or
// with ctx.Err() if ctx ends first.
func (a *admission) acquire(ctx context.Context, by Claim, w work) (*ticket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &ticket{by: by, work: w, ready: make(chan struct{})}
	t.deadline, _ = ctx.Deadline()
	mustWait, err := a.enter(t)
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

// release passes the slot on to the caller whose turn it is.
func (a *admission) release(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free(t, a.now())
}

// measured adds the time of one hash to the running average.
func (a *admission) measured(w work, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.totals.Hashed++
	if w.engine != engineArgon2 {
		a.totals.Foreign++
	}
	if took <= 0 { // a clock that does not move or was set back measures nothing
		return
	}
	a.totals.HashingTime += took
	p := &a.paces[w.engine]
	sample := min(float64(took)/float64(w.units), outlier*p.rate)
	p.rate += smoothing * (sample - p.rate)
	if p.best == 0 || p.rate < p.best {
		p.best = p.rate
	}
	p.probed = a.now()
}

// stopped counts a hash that stopped because its call was over.
func (a *admission) stopped() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.totals.Abandoned++
}

func (a *admission) stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.totals
	s.Slots, s.Queue = a.slots, a.queue
	s.InUse, s.Waiting = len(a.running), a.waiting.size()
	return s
}

// enter gives t a slot, adds it to the queue (in the place of another caller if the queue is full) or refuses it.
func (a *admission) enter(t *ticket) (mustWait bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	t.arrived = now
	own := a.estimate(t.work)
	if len(a.running) < a.slots {
		if t.late(now, own) && !a.probe(t.work.engine, now) {
			return false, a.turnAway(t, now)
		}
		a.start(t, now)
		return false, nil
	}
	a.waiting.add(t)
	var crowding *ticket
	if a.waiting.size() > a.queue {
		crowding = a.waiting.crowding(t)
	}
	if crowding == t || a.foretellsLate(t, crowding, now) {
		a.waiting.remove(t)
		return false, a.turnAway(t, now)
	}
	if crowding != nil {
		a.waiting.remove(crowding)
		crowding.refused = a.turnAway(crowding, now)
		close(crowding.ready)
	}
	return true, nil
}

// wake decides how the wait of t ended: ready, ctx or both may have ended it. A ticket that was refused has already
// left the queue. If t cannot use the slot that it was given, the slot passes to the next caller. The same happens if
// the wait was longer than foretold: work that will be late anyway must not delay the callers behind it.
func (a *admission) wake(ctx context.Context, t *ticket) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.totals.WaitingTime += now.Sub(t.arrived)
	if t.refused != nil {
		return t.refused
	}
	if err := ctx.Err(); err != nil {
		a.totals.Abandoned++
		if !a.waiting.remove(t) {
			a.free(t, now)
		}
		return err
	}
	if t.late(now, a.estimate(t.work)) {
		a.free(t, now)
		return a.turnAway(t, now)
	}
	return nil
}

func (a *admission) start(t *ticket, now time.Time) {
	t.started = now
	a.running = append(a.running, t)
}

// free hands the slot straight to the next in the queue. If the slot were only marked as free, a newcomer could
// overtake.
func (a *admission) free(t *ticket, now time.Time) {
	i := slices.Index(a.running, t)
	a.running = slices.Delete(a.running, i, i+1)
	next := a.waiting.next(func(*ticket) bool { return false }, a.estimate)
	if next == nil {
		return
	}
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

// foretellsLate reports whether t, which has joined the queue, would finish after its deadline if no caller came after
// it and the ticket without were not there. It simulates the work that runs and waits, up to that deadline at most.
// That is more exact than the sum over the slots: if costs differ, the sum refuses callers who would finish in time.
func (a *admission) foretellsLate(t, without *ticket, now time.Time) bool {
	if t.deadline.IsZero() {
		return false
	}
	free := make([]time.Time, len(a.running))
	for i, running := range a.running {
		free[i] = now.Add(a.remaining(running, now))
	}
	own, ahead := a.estimate(t.work), a.waiting.foretell()
	for {
		first := 0
		for i := range free {
			if free[i].Before(free[first]) {
				first = i
			}
		}
		at := free[first]
		if t.late(at, own) { // later turns come no sooner
			return true
		}
		next := ahead.next(func(c *ticket) bool { return c == without || c.late(at, 0) }, a.estimate)
		if next == t {
			return false
		}
		if takes := a.estimate(next.work); !next.late(at, takes) {
			free[first] = at.Add(takes)
		} // or wake turns it away
	}
}

// turnAway counts a refusal and says when to come back: after the work that is ahead. Strangers that are turned away
// together come back one after the other, as fast as they can be served. With the same time for all, 2,000 of them came
// back in the same instant each second, and kept the processors from everything else.
func (a *admission) turnAway(who *ticket, now time.Time) error {
	a.totals.TurnedAway++
	var ahead time.Duration
	for _, t := range a.running {
		ahead += a.remaining(t, now)
	}
	for e, units := range a.waiting.units {
		ahead += a.estimate(work{engine(e), units + a.coming.units[e]})
	}
	ahead /= time.Duration(a.slots)
	wait := min(max(roundUp(ahead, time.Second), minRetryAfter), maxRetryAfter)
	if who.by.Known { // those behind strangers would be the wrong times: known clients get the next slots
		a.totals.KnownTurnedAway++
		return &OverloadedError{RetryAfter: wait}
	}
	// When they come back the crowd is gone, and hashes take as long as in calm times: the average of this moment, several
	// times that, would leave the slots idle.
	own := a.estimate(who.work)
	if best := a.paces[who.work.engine].best; best > 0 {
		own = min(own, time.Duration(float64(who.work.units)*best))
	}
	next := a.invited.Add(own / time.Duration(a.slots)).Sub(now)
	if wait < next && next <= maxRetryAfter {
		wait = roundUp(next, time.Millisecond)
	}
	a.invited = now.Add(wait)
	return &OverloadedError{RetryAfter: wait}
}

// roundUp returns the smallest multiple of unit that is not below d.
func roundUp(d, unit time.Duration) time.Duration { return (d + unit - 1).Truncate(unit) }

func (a *admission) estimate(w work) time.Duration {
	return time.Duration(float64(w.units) * a.paces[w.engine].rate)
}

func (a *admission) remaining(t *ticket, now time.Time) time.Duration {
	return max(0, a.estimate(t.work)-now.Sub(t.started))
}

// late reports whether t misses its deadline if its work takes this long from now.
func (t *ticket) late(now time.Time, takes time.Duration) bool {
	return !t.deadline.IsZero() && now.Add(takes).After(t.deadline)
}
