package password

import (
	"slices"
	"time"
)

// turns holds the callers that wait for a slot and decides whose turn it is.
//
// Known clients and strangers get half of the time each while both wait, however many there are of each. Within each
// group, networks take turns call by call, and so do the addresses of a network. The calls of an address are in the
// order of arrival. So a network's wait depends on how many networks wait, and not on how many calls the others have
// sent. Networks that no longer wait are dropped: memory is only that of the callers.
type turns struct {
	known, strangers *line
	units            [engines]uint64 // work that waits
	// lead is how much more time known clients were given than strangers while both waited. A group that does not wait
	// saves no time for later.
	lead time.Duration
}

// line is a class, a network or an address. It holds other lines that take turns, the next one first, or calls in the
// order of arrival.
type line struct {
	key   string
	size  int // calls, also those of its lines
	lines []*line
	calls []*ticket
	owner *turns
}

func newTurns() *turns {
	q := &turns{}
	q.known, q.strangers = &line{owner: q}, &line{owner: q}
	return q
}

// foretell returns a copy on which the next turns can be simulated. q must not change meanwhile. Lines are
// copied when their turn comes.
func (q *turns) foretell() *turns {
	ahead := &turns{units: q.units, lead: q.lead}
	ahead.known, ahead.strangers = q.known.of(ahead), q.strangers.of(ahead)
	return ahead
}

func (q *turns) size() int { return q.known.size + q.strangers.size }

func (q *turns) class(t *ticket) *line {
	if t.by.Known {
		return q.known
	}
	return q.strangers
}

// add puts a caller behind the others of its address. A network or an address that was not waiting has its first turn
// after those that were.
func (q *turns) add(t *ticket) {
	q.class(t).add(t, t.path())
	q.units[t.work.engine] += t.work.units
}

// remove removes a caller before its turn. It returns false if the caller was not there.
func (q *turns) remove(t *ticket) bool {
	if !q.class(t).remove(t, t.path()) {
		return false
	}
	q.units[t.work.engine] -= t.work.units
	q.limitLead()
	return true
}

// next removes and returns the caller whose turn it is, or returns nil. It drops callers for whom gone
// returns true; they use up no turn. cost returns how long a caller holds its slot.
func (q *turns) next(gone func(*ticket) bool, cost func(work) time.Duration) *ticket {
	first, second := q.known, q.strangers
	if q.lead > 0 {
		first, second = second, first
	}
	t := first.next(gone)
	if t == nil {
		t = second.next(gone)
	}
	if t == nil {
		return nil
	}
	q.units[t.work.engine] -= t.work.units
	if t.by.Known {
		q.lead += cost(t.work)
	} else {
		q.lead -= cost(t.work)
	}
	q.limitLead()
	return t
}

func (q *turns) limitLead() {
	if q.known.size == 0 {
		q.lead = max(q.lead, 0)
	}
	if q.strangers.size == 0 {
		q.lead = min(q.lead, 0)
	}
}

// crowding returns the caller that must leave so that the queue has room for t, which was just added. That is the last
// call of the address with the most calls, in the network with the most calls, in the larger of the two groups, known
// clients and strangers. Among equals it is t itself, so that callers in a full queue do not replace each other. If the
// groups have the same size, it is a stranger.
func (q *turns) crowding(t *ticket) *ticket {
	class := q.strangers
	if q.known.size > q.strangers.size {
		class = q.known
	}
	path := t.path()
	if class != q.class(t) {
		path = nil
	}
	return class.crowding(path)
}

// path returns the names of the lines from a class to the line that has t among its calls.
func (t *ticket) path() []string { return []string{t.by.Network, t.by.Address} }

func (l *line) find(key string) int {
	return slices.IndexFunc(l.lines, func(other *line) bool { return other.key == key })
}

func (l *line) add(t *ticket, path []string) {
	l.size++
	if len(path) == 0 {
		l.calls = append(l.calls, t)
		return
	}
	i := l.find(path[0])
	if i < 0 {
		i = len(l.lines)
		l.lines = append(l.lines, &line{key: path[0], owner: l.owner})
	}
	l.lines[i].add(t, path[1:])
}

func (l *line) remove(t *ticket, path []string) (found bool) {
	if len(path) == 0 {
		i := slices.Index(l.calls, t)
		if i >= 0 {
			l.calls = slices.Delete(l.calls, i, i+1)
			l.size--
		}
		return i >= 0
	}
	i := l.find(path[0])
	if i < 0 || !l.lines[i].remove(t, path[1:]) {
		return false
	}
	l.size--
	if l.lines[i].size == 0 {
		l.lines = slices.Delete(l.lines, i, i+1)
	}
	return true
}

// next does not change what a copy shares with its original: the calls, and lines of another owner.
func (l *line) next(gone func(*ticket) bool) *ticket {
	for len(l.lines) > 0 {
		first := l.lines[0].of(l.owner)
		before := first.size
		t := first.next(gone)
		l.size -= before - first.size
		l.lines = l.lines[1:]
		if first.size > 0 {
			l.lines = append(l.lines, first)
		}
		if t != nil {
			return t
		}
	}
	for len(l.calls) > 0 {
		t := l.calls[0]
		l.calls = l.calls[1:]
		l.size--
		if !gone(t) {
			return t
		}
	}
	return nil
}

// of returns the line itself if owner owns it, and owner's copy of it otherwise.
func (l *line) of(owner *turns) *line {
	if l.owner == owner {
		return l
	}
	theirs := *l
	theirs.owner, theirs.lines = owner, slices.Clip(l.lines) // so append makes a new array
	return &theirs
}

// crowding prefers the lines of path, if there is one, among those of equal size, and otherwise the one whose
// turn comes last.
func (l *line) crowding(path []string) *ticket {
	if len(l.lines) == 0 {
		return l.calls[len(l.calls)-1]
	}
	most, ours := l.lines[0], false
	for _, other := range l.lines {
		if other.size > most.size || other.size == most.size && !ours {
			most, ours = other, len(path) > 0 && other.key == path[0]
		}
	}
	if !ours {
		return most.crowding(nil)
	}
	return most.crowding(path[1:])
}
