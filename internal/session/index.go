package session

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// indexLua adds a login to its user's index and takes out what is over the limit.
//
//go:embed index.lua
var indexLua string

// deleteLua deletes a session of one user.
//
//go:embed delete.lua
var deleteLua string

const (
	// danglingTime is for how long an entry of the index stays although its session is not there: a login writes the
	// entry first, and has at most 15 seconds for the session. The rest is for clocks that differ.
	danglingTime = 2 * time.Minute
	// takeOverTime is how long after it was taken out a session that is still in the index is handed to another login,
	// to be ended: whoever took it out has no longer than 15 seconds for that.
	takeOverTime = 30 * time.Second
)

// enter puts a login into the index and returns the sessions that it pushed out.
func (s *Store) enter(ctx context.Context, userID, id uuid.UUID, now int64) ([]uuid.UUID, error) {
	reply, err := s.runIndex(ctx, userID, id, now, "ask")
	if err != nil {
		return nil, err
	}
	if reply[0] == "over" {
		// Sessions that ran out by themselves are still in the index, and must not push out one that lives. The script
		// cannot look: each session is a key of its own, elsewhere in a cluster.
		if _, err := s.readIndex(ctx, userID, now); err != nil {
			return nil, err
		}
		if reply, err = s.runIndex(ctx, userID, id, now, "take"); err != nil {
			return nil, err
		}
	}
	var out []uuid.UUID
	for _, text := range reply[1:] {
		if taken, err := uuid.Parse(text); err == nil { // nothing else can be ended
			out = append(out, taken)
		}
	}
	return out, nil
}

func (s *Store) runIndex(ctx context.Context, userID, id uuid.UUID, now int64, mode string) ([]string, error) {
	reply, err := s.index.Run(ctx, s.redis, []string{indexKey(userID)},
		id.String(), now, max(now-s.max, 0), s.limit,
		s.max+expiryMargin.Milliseconds(), max(now-takeOverTime.Milliseconds(), 0), mode,
	).StringSlice()
	if err != nil {
		return nil, unavailable("enter a session into the index", err)
	}
	if len(reply) == 0 {
		return nil, fmt.Errorf("%w: enter a session into the index: empty answer", ErrUnavailable)
	}
	return reply, nil
}

// readIndex reads the sessions that a user's index names. It drops entries whose session is gone for good.
func (s *Store) readIndex(ctx context.Context, userID uuid.UUID, now int64) ([]record, error) {
	entries, err := s.redis.ZRangeWithScores(ctx, indexKey(userID), 0, -1).Result()
	if err != nil {
		return nil, unavailable("read an index", err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	// Not a transaction: in a cluster the sessions are in different places.
	replies := make([]*redis.MapStringStringCmd, len(entries))
	ids := make([]uuid.UUID, len(entries))
	_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, entry := range entries {
			ids[i], _ = uuid.Parse(member(entry)) // what is no id finds no session
			replies[i] = pipe.HGetAll(ctx, redisKey(ids[i]))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read sessions", err)
	}
	var records []record
	var gone []any
	for i, entry := range entries {
		rec, err := readRecord(ids[i], replies[i].Val())
		switch {
		case err == nil && rec.UserID == userID && rec.idleEnd+expiryMargin.Milliseconds() > now:
			records = append(records, rec)
		case max(entry.Score, -entry.Score) <= float64(now-danglingTime.Milliseconds()):
			gone = append(gone, entry.Member)
		}
	}
	return records, s.unlist(ctx, userID, gone)
}

func member(entry redis.Z) string {
	text, _ := entry.Member.(string)
	return text
}

// List returns the live sessions of a user, newest login first, as far as the index knows them. It is for display:
// what the ledger has ended may be among them. The errors are ErrUnavailable and that of a clock that is out of range.
func (s *Store) List(ctx context.Context, userID uuid.UUID) ([]Session, error) {
	now, err := s.millis()
	if err != nil {
		return nil, err
	}
	records, err := s.readIndex(ctx, userID, now)
	if err != nil {
		return nil, err
	}
	var sessions []Session
	for _, rec := range records {
		if sess := rec.session(); !sess.Ended(fromMillis(now)) {
			sessions = append(sessions, sess)
		}
	}
	slices.SortFunc(sessions, func(a, b Session) int { return -a.Compare(b) })
	return sessions, nil
}

// Get returns a live session of a user. One that is unknown, ended or somebody else's is an *UnknownError; the other
// errors are those of List, and the same holds of the ledger.
func (s *Store) Get(ctx context.Context, userID, sessionID uuid.UUID) (Session, error) {
	now, err := s.millis()
	if err != nil {
		return Session{}, err
	}
	fields, err := s.redis.HGetAll(ctx, redisKey(sessionID)).Result()
	if err != nil {
		return Session{}, unavailable("read a session", err)
	}
	rec, err := readRecord(sessionID, fields)
	if err != nil || rec.UserID != userID || rec.session().Ended(fromMillis(now)) {
		return Session{}, &UnknownError{SessionID: sessionID}
	}
	return rec.session(), nil
}

// Delete removes a session of a user, and its entry in the index. One that is not there, or is another user's, is no
// error. Put the revocation into the ledger first: until it is there, a Redis that is restored brings the session back.
func (s *Store) Delete(ctx context.Context, userID, sessionID uuid.UUID) error {
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		s.delete.Eval(ctx, pipe, []string{redisKey(sessionID)}, userID.String())
		pipe.ZRem(ctx, indexKey(userID), sessionID.String())
		return nil
	})
	if err != nil {
		return unavailable("delete a session", err)
	}
	return nil
}

// ClearIndex takes the sessions of a user that were authenticated before a position of the ledger out of the index, but
// one (uuid.Nil: none is spared). The position is that of the row that ended them all: a login that came after it may
// be in the index by now.
//
// The sessions themselves stay until they expire, so that whoever refreshes one learns that it was ended: the row
// names the user, and only the session knows whose it is.
func (s *Store) ClearIndex(ctx context.Context, userID, except uuid.UUID, before int64) error {
	now, err := s.millis()
	if err != nil {
		return err
	}
	records, err := s.readIndex(ctx, userID, now)
	if err != nil {
		return err
	}
	var ended []any
	for _, rec := range records {
		if rec.Position < before && rec.SessionID != except {
			ended = append(ended, rec.SessionID.String())
		}
	}
	return s.unlist(ctx, userID, ended)
}

// unlist takes sessions out of the index.
func (s *Store) unlist(ctx context.Context, userID uuid.UUID, members []any) error {
	if len(members) == 0 {
		return nil
	}
	if err := s.redis.ZRem(ctx, indexKey(userID), members...).Err(); err != nil {
		return unavailable("clean an index", err)
	}
	return nil
}

// indexKey has the user id as its hash tag. The index is a key of its own: no script touches it and a session.
func indexKey(userID uuid.UUID) string { return "latchkey:sessions:{" + userID.String() + "}" }
