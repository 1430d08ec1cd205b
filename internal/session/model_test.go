package session

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The model is the rules of refreshing, written from the history of a session rather than from the fields
// that the script keeps: which generations were spent, when, and for which request.

// spending is the use of one generation. One that the store forgot in a rollback is absent.
type spending struct {
	at      time.Time
	request string
	// spent made the token that was spent, next its successor. One generation can have tokens of two keys, or of two
	// forms, when a rollback and a change of the secret come together; a retry presents the one it presented before.
	spent, next maker
}

// maker is a key and the form of the tokens that were made with it.
type maker struct {
	key  byte
	long bool
}

type modelState struct {
	latest  uint64
	idleEnd time.Time
	rotated time.Time
	lives   time.Duration // what the latest write gave it in Redis
	spent   map[uint64]spending
}

func (m modelState) clone() modelState {
	m.spent = maps.Clone(m.spent)
	return m
}

type modelSession struct {
	id, user uuid.UUID
	ledger   int64
	end      time.Time
	alive    bool
	state    modelState
	// mark is what another store has noted, which is not rolled back.
	mark Mark
	// issued has every token that was ever handed out, by generation and key: the texts must not vary.
	issued map[tokenName]string
	order  []tokenName
}

type tokenName struct {
	generation uint64
	maker
}

// verdict is what the model expects of a refresh.
type verdict struct {
	err     error
	outcome Outcome
	issued  time.Time
	by      maker // of the successor
	after   modelState
}

type rules struct {
	idle, max, grace time.Duration
	limit            int
}

// modelIndex has the time of each login, or minus the time at which it was taken out, in milliseconds.
type modelIndex map[uuid.UUID]int64

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// clean drops what is gone for good, and says how much that was.
func (x modelIndex) clean(gone map[uuid.UUID]bool, now time.Time) int {
	before := len(x)
	maps.DeleteFunc(x, func(id uuid.UUID, at int64) bool {
		return gone[id] && max(at, -at) <= now.Add(-danglingTime).UnixMilli()
	})
	return before - len(x)
}

// login enters a session and returns, by id, which ones are to be ended.
func (r rules) login(x modelIndex, id uuid.UUID, gone map[uuid.UUID]bool, now time.Time, reached map[string]int) []uuid.UUID {
	maps.DeleteFunc(x, func(_ uuid.UUID, at int64) bool { return max(at, -at) <= now.Add(-r.max).UnixMilli() })
	x[id] = now.UnixMilli()
	counted := func() (ids []uuid.UUID) {
		for other, at := range x {
			if at >= 0 {
				ids = append(ids, other)
			}
		}
		return ids
	}
	var out []uuid.UUID
	take := func(taken uuid.UUID) {
		out = append(out, taken)
		x[taken] = -now.UnixMilli()
	}
	if r.limit > 0 && len(counted()) > r.limit {
		reached["cleaned"] += x.clean(gone, now)
	}
	for other, at := range x {
		if at < 0 && -at <= now.Add(-takeOverTime).UnixMilli() {
			reached["taken over"]++
			take(other)
		}
	}
	others := slices.DeleteFunc(counted(), func(other uuid.UUID) bool { return other == id })
	slices.SortFunc(others, func(a, b uuid.UUID) int { return cmp.Or(cmp.Compare(x[a], x[b]), compareIDs(a, b)) })
	for r.limit > 0 && len(others) >= r.limit && len(others) > 0 {
		take(others[0])
		others = others[1:]
	}
	return slices.SortedFunc(slices.Values(out), compareIDs)
}

// refresh decides about spending a generation, now, by a token that Open accepted.
func (r rules) refresh(s *modelSession, token tokenName, request string, now time.Time, current maker, keys []byte) verdict {
	generation := token.generation
	state := s.state.clone()
	if !now.Before(s.end) {
		return verdict{err: ErrEnded, after: state}
	}
	if !s.alive {
		return verdict{err: ErrUnknown, after: state}
	}
	if !now.Before(state.idleEnd) {
		return verdict{err: ErrEnded, after: state}
	}
	inGrace := func(generation uint64) bool {
		use, known := state.spent[generation]
		return known && !now.After(use.at.Add(r.grace))
	}
	if marked := s.mark.Generation; state.latest < marked &&
		(generation+1 < marked || generation+1 == marked && now.After(s.mark.Time.Add(r.grace))) {
		return verdict{err: ErrReused, after: state}
	}
	ahead := int64(generation) - int64(state.latest)
	switch {
	case ahead >= 0:
		outcome := Advanced
		if ahead > 0 {
			outcome = CaughtUp
			state.spent = map[uint64]spending{}
		}
		state.spent[generation] = spending{at: now, request: request, spent: token.maker, next: current}
		state.latest = generation + 1
		state.rotated = now
		state.idleEnd = now.Add(r.idle)
		if state.idleEnd.After(s.end) {
			state.idleEnd = s.end
		}
		state.lives = state.idleEnd.Sub(now) + expiryMargin
		return verdict{outcome: outcome, issued: now, by: current, after: state}
	case ahead == -1:
		// The creation counts as a spending of generation 0, so this one is known unless nothing was ever spent.
		use := state.spent[generation]
		v := verdict{issued: now, by: use.next, after: state}
		if !slices.Contains(keys, use.next.key) {
			v.by.key = current.key
		}
		if inGrace(generation) {
			v.issued = use.at
		}
		switch {
		case request != "" && request == use.request && token.maker == use.spent:
			v.outcome = RepeatedSameRequest
		case inGrace(generation):
			v.outcome = RepeatedInGrace
		default:
			v.err = ErrReused
		}
		return v
	case ahead == -2 && inGrace(generation):
		return verdict{err: ErrLate, after: state}
	default:
		return verdict{err: ErrReused, after: state}
	}
}
