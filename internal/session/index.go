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

// indexLua adds a login to its user's index, and takes out the sessions that are over the limit.
//
//go:embed index.lua
var indexLua string

// deleteLua deletes a session of one user.
//
//go:embed delete.lua
var deleteLua string

const (
	// danglingTime is how long an entry of the index stays without its session: a login writes the entry first,
	// and then has at most 15 seconds to write the session. The rest is for clocks that differ.
	danglingTime = 2 * time.Minute
	// takeOverTime is when a second login gets a session to end that a first login has got, but has not ended.
	// The first login has at most 15 seconds for that.
	takeOverTime = 30 * time.Second
)

// enter adds a login to the index, and returns the sessions that are over the limit.
func (s *Store) enter(ctx context.Context, userID, id uuid.UUID, now int64) ([]uuid.UUID, error) {
	reply, err := s.runIndex(ctx, userID, id, now, "ask")
	if err != nil {
		return nil, err
	}
	if reply[0] == "over" {
		// Sessions that have expired may still be in the index, and must not push out a live one. The script cannot
		// read the sessions: each has its own key, and in a cluster they are on other servers.
		if _, err := s.readIndex(ctx, userID, now); err != nil {
			return nil, err
		}
		if reply, err = s.runIndex(ctx, userID, id, now, "take"); err != nil {
			return nil, err
		}
	}
	var out []uuid.UUID
	for _, text := range reply[1:] {
		if taken, err := uuid.Parse(text); err == nil { // other text names no session
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

// readIndex reads the sessions in a user's index. It removes entries whose session is gone.
func (s *Store) readIndex(ctx context.Context, userID uuid.UUID, now int64) ([]record, error) {
	entries, err := s.redis.ZRangeWithScores(ctx, indexKey(userID), 0, -1).Result()
	if err != nil {
		return nil, unavailable("read an index", err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	// Not a transaction: in a cluster the sessions are on different servers.
	replies := make([]*redis.MapStringStringCmd, len(entries))
	ids := make([]uuid.UUID, len(entries))
	_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, entry := range entries {
			ids[i], _ = uuid.Parse(member(entry)) // other text finds no session
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

// List returns the live sessions of a user that are in the index, the newest login first. It is for display:
// sessions that the ledger has revoked may be among them. The errors are ErrUnavailable and that for a clock
// that is out of range.
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

// Get returns a live session of a user. If it is unknown, has ended, or belongs to another user, Get returns
// an *UnknownError. The other errors are those of List. Like List, it does not ask the ledger.
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

// Delete deletes a session of a user and its entry in the index. If the session does not exist or belongs to
// another user, it returns nil. Append the revocation to the ledger first: otherwise a Redis that is restored
// revives the session.
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

// ClearIndex takes a user's sessions whose position is below before out of the index, except one (uuid.Nil:
// no exception). before is the position of the row that ended them all: logins after that row may be in the
// index already.
//
// The sessions themselves stay until they expire, so that a client that refreshes one gets the answer that it
// has ended: the row names the user, and only the session says which user that is.
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

// DeleteAll deletes all sessions in a user's index, and the index. Append the revocation to the ledger first, as for
// Delete. Sessions that were taken out of the index before stay until they expire.
func (s *Store) DeleteAll(ctx context.Context, userID uuid.UUID) error {
	members, err := s.redis.ZRange(ctx, indexKey(userID), 0, -1).Result()
	if err != nil {
		return unavailable("read an index", err)
	}
	// Not a transaction: in a cluster the sessions are on different servers.
	_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, text := range members {
			if id, err := uuid.Parse(text); err == nil { // other text names no session
				s.delete.Eval(ctx, pipe, []string{redisKey(id)}, userID.String())
			}
		}
		pipe.Del(ctx, indexKey(userID))
		return nil
	})
	if err != nil {
		return unavailable("delete sessions", err)
	}
	return nil
}

// unlist removes sessions from the index.
func (s *Store) unlist(ctx context.Context, userID uuid.UUID, members []any) error {
	if len(members) == 0 {
		return nil
	}
	if err := s.redis.ZRem(ctx, indexKey(userID), members...).Err(); err != nil {
		return unavailable("clean an index", err)
	}
	return nil
}

// indexKey has the user id as its hash tag. No script uses both the index and a session, so they may be on
// different servers.
func indexKey(userID uuid.UUID) string { return "latchkey:sessions:{" + userID.String() + "}" }
