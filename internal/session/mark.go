package session

import (
	"time"
)

// How often a mark is worth a write. The first refreshes, which a session that is used
// rarely has none but, and then one an hour or one in sixteen: a client that refreshes
// every fifteen minutes has four tokens at most that a rollback of Redis revives.
const (
	markFirst  = 8
	markEvery  = 16
	markPeriod = time.Hour
)

// Mark is how far a session has come, by a store that is not rolled back with Redis. The
// zero Mark says nothing.
type Mark struct {
	// Generation was the latest one, or there is a later one by now: all tokens below
	// are spent.
	Generation uint64
	// Time is when it was made.
	Time time.Time
}

// Due says whether a rotation is to be noted in place of the mark.
func (m Mark) Due(r Rotation) bool {
	now := r.Session.Generation
	return now > m.Generation && (now <= markFirst || now >= m.Generation+markEvery ||
		!r.Session.RotateTime.Before(m.Time.Add(markPeriod)))
}

// Live says whether a token is one that its session's owner can still have in use: the
// latest, or the one before within the grace, when the answer to its refresh may be on
// its way. The errors are those of Rotate: ErrReused, ErrLate and ErrEnded.
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
