package session

import (
	"time"
)

// How often a mark is written: for each of the first refreshes, since many sessions have no more than these,
// and then once an hour or for each sixteenth. So if a client refreshes each 15 minutes, a rollback of Redis
// revives four tokens at most.
const (
	markFirst  = 8
	markEvery  = 16
	markPeriod = time.Hour
)

// Mark is a generation that a session has reached, stored where a rollback of Redis does not reach it. The
// zero Mark means that nothing is known.
type Mark struct {
	// Generation is one that the session has reached: all tokens of lower generations are spent.
	Generation uint64
	// Time is when the mark was made.
	Time time.Time
}

// Due returns whether a new mark should replace m after a rotation.
func (m Mark) Due(r Rotation) bool {
	now := r.Session.Generation
	return now > m.Generation && (now <= markFirst || now >= m.Generation+markEvery ||
		!r.Session.RotateTime.Before(m.Time.Add(markPeriod)))
}

// Live returns nil if the session's owner may still use this token: it is the latest one, or the one before
// within the grace, when the answer to its refresh may not have arrived yet. Otherwise it returns ErrReused,
// ErrLate or ErrEnded, as Rotate does.
func (s *Store) Live(p *Presented, mark Mark) error {
	now, err := s.millis()
	if err != nil {
		return err
	}
	if p.rec.session().Ended(fromMillis(now)) {
		return ErrEnded
	}
	latest, rotated := p.rec.generation, p.rec.rotated
	behind := latest < mark.Generation // rolled back
	if behind {
		latest, rotated = mark.Generation, mark.Time.UnixMilli()
	}
	switch {
	case p.Generation >= latest, p.Generation == latest-1 && now-rotated <= s.grace:
		return nil
	case p.Generation == latest-2 && !behind && p.rec.spent != 0 && now-p.rec.spent <= s.grace:
		return ErrLate
	}
	return ErrReused
}
