package password

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// model simulates what admission promises, as events on one flat list. It is slow, and does not use the lines in which
// turns keeps the waiting callers. Times count from the start.
type model struct {
	arrivals []arrival
	queue    int
	free     []time.Duration // when each slot is given back
	waiting  []int           // by arrival
	starts   []time.Duration // -1: not yet, or never
	// since orders the networks that wait, and the addresses of each. It is the later of the time when they joined and
	// the time of their last turn.
	since map[Claim]int
	count int
	lead  time.Duration // that known clients were given more than strangers
}

const never = time.Duration(math.MaxInt64)

func newModel(slots, queue int, arrivals []arrival) *model {
	m := &model{arrivals: arrivals, queue: queue, free: make([]time.Duration, slots), since: make(map[Claim]int)}
	for range arrivals {
		m.starts = append(m.starts, -1)
	}
	return m
}

// run returns when each caller starts; negative: never.
func (m *model) run() []time.Duration {
	for i, c := range m.arrivals {
		m.until(c.at)
		m.arrive(i)
	}
	m.until(never)
	return m.starts
}

func (m *model) arrive(i int) {
	c := m.arrivals[i]
	if free := slices.Min(m.free); free <= c.at {
		if c.inTime(c.at) {
			m.start(i, slices.Index(m.free, free), c.at)
		}
		return
	}
	with := m.clone()
	with.join(i)
	if len(with.waiting) > m.queue {
		last := with.crowding(i)
		with.leave(last)
		if last == i {
			return
		}
	}
	foretold := with.clone()
	foretold.until(never)
	if foretold.starts[i] >= 0 {
		*m = *with
	}
}

// until lets time pass: slots become free, and callers that wait past their deadline leave.
func (m *model) until(end time.Duration) {
	for len(m.waiting) > 0 {
		at := slices.Min(m.free)
		leaves := slices.MinFunc(m.waiting, func(i, j int) int { return cmp.Compare(m.arrivals[i].ends(), m.arrivals[j].ends()) })
		if m.arrivals[leaves].ends() < min(at, end) {
			m.leave(leaves)
			continue
		}
		if at > end {
			return
		}
		i := m.next()
		m.turn(i)
		if m.arrivals[i].inTime(at) {
			m.start(i, slices.Index(m.free, at), at)
		}
	}
}

func (m *model) start(i, slot int, at time.Duration) {
	m.starts[i], m.free[slot] = at, at+m.arrivals[i].work()
}

// next returns whose turn it is. It prefers known clients unless they are ahead; then the network, then its address,
// that has had no turn for the longest time; then the caller that came first.
func (m *model) next() int {
	known, strangers := m.classes()
	if len(known) == 0 || len(strangers) > 0 && m.lead > 0 {
		known = strangers
	}
	return slices.MinFunc(known, func(i, j int) int {
		a, b := m.arrivals[i].by, m.arrivals[j].by
		return cmp.Or(
			cmp.Compare(m.since[network(a)], m.since[network(b)]),
			cmp.Compare(m.since[a], m.since[b]),
			cmp.Compare(i, j),
		)
	})
}

// turn removes i and records its turn.
func (m *model) turn(i int) {
	c := m.arrivals[i]
	m.count++
	m.since[c.by], m.since[network(c.by)] = m.count, m.count
	if c.by.Known {
		m.lead += c.work()
	} else {
		m.lead -= c.work()
	}
	m.leave(i)
}

func (m *model) join(i int) {
	by := m.arrivals[i].by
	m.count++
	for _, key := range []Claim{by, network(by)} {
		waits := func(j int) bool { other := m.arrivals[j].by; return key == other || key == network(other) }
		if !slices.ContainsFunc(m.waiting, waits) {
			m.since[key] = m.count
		}
	}
	m.waiting = append(m.waiting, i)
}

// leave removes i. A class without callers saves no time for later.
func (m *model) leave(i int) {
	m.waiting = slices.DeleteFunc(m.waiting, func(other int) bool { return other == i })
	known, strangers := m.classes()
	if len(known) == 0 {
		m.lead = max(m.lead, 0)
	}
	if len(strangers) == 0 {
		m.lead = min(m.lead, 0)
	}
}

// crowding returns the caller that leaves for i: the last to come of the class, the network and the address with the
// most callers. Among equals it prefers i's own, otherwise the one whose turn is last.
func (m *model) crowding(i int) int {
	known, all := m.classes()
	if len(known) > len(all) {
		all = known
	}
	for _, key := range []func(Claim) Claim{network, func(by Claim) Claim { return by }} {
		size := make(map[Claim]int)
		for _, j := range all {
			size[key(m.arrivals[j].by)]++
		}
		own := key(m.arrivals[i].by)
		most := slices.MaxFunc(slices.Collect(maps.Keys(size)), func(a, b Claim) int {
			order := cmp.Compare(size[a], size[b])
			switch {
			case order == 0 && a == own:
				return 1
			case order == 0 && b == own:
				return -1
			}
			return cmp.Or(order, cmp.Compare(m.since[a], m.since[b]))
		})
		all = slices.DeleteFunc(all, func(j int) bool { return key(m.arrivals[j].by) != most })
	}
	return slices.Max(all)
}

func (m *model) classes() (known, strangers []int) {
	for _, i := range m.waiting {
		if m.arrivals[i].by.Known {
			known = append(known, i)
		} else {
			strangers = append(strangers, i)
		}
	}
	return known, strangers
}

func (m *model) clone() *model {
	c := *m
	c.free, c.waiting, c.starts = slices.Clone(m.free), slices.Clone(m.waiting), slices.Clone(m.starts)
	c.since = maps.Clone(m.since)
	return &c
}

// network returns the claim without its address.
func network(by Claim) Claim { return Claim{Network: by.Network, Known: by.Known} }

func (c arrival) work() time.Duration { return time.Duration(c.units) * time.Millisecond }

func (c arrival) ends() time.Duration {
	if c.patience == 0 {
		return never
	}
	return c.at + c.patience
}

func (c arrival) inTime(start time.Duration) bool { return start+c.work() <= c.ends() }
