package legacy

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// StoreConfig says what the older backends were set to. A zero value is what they had without a setting.
type StoreConfig struct {
	// ResetLife is the longest that either lets a reset token live. Zero: an hour.
	ResetLife time.Duration
	// Attempts is after how many failed logins the Go backend refuses an address. Zero: 5.
	Attempts int
	// AttemptsWindow is how long it counts them. Zero: 15 minutes.
	AttemptsWindow time.Duration
}

// Defaults returns the config with what the backends had where nothing is set.
func (c StoreConfig) Defaults() StoreConfig {
	return StoreConfig{cmp.Or(c.ResetLife, time.Hour), cmp.Or(c.Attempts, 5), cmp.Or(c.AttemptsWindow, 15*time.Minute)}
}

// Store reads what the older backends left in Redis. It changes nothing that they
// still need: what was spent is remembered in PostgreSQL.
type Store struct {
	redis redis.UniversalClient
	cfg   StoreConfig
}

// NewStore uses the Redis that the older backends used.
func NewStore(client redis.UniversalClient, cfg StoreConfig) *Store {
	return &Store{client, cfg.Defaults()}
}

// ResetLife is the longest that a reset token of either backend lives.
func (s *Store) ResetLife() time.Duration { return s.cfg.ResetLife }

// IsRefresh says whether the token is a refresh token that its backend keeps: under
// refresh_token:{jti} with the user's id for the Go backend, under
// refresh_token:{user id} with the very token for the Rust one, whose other tokens
// look the same.
func (s *Store) IsRefresh(ctx context.Context, t *Token) (bool, error) {
	name, want := t.UserID.String(), t.text
	if t.Backend == Go {
		name, want = t.ID, t.UserID.String()
	}
	kept, err := s.redis.Get(ctx, "refresh_token:"+name).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, unavailable("read a refresh token", err)
	}
	return subtle.ConstantTimeCompare([]byte(kept), []byte(want)) == 1, nil
}

// Reset is a reset token that a backend keeps.
type Reset struct {
	UserID uuid.UUID
	// IsUndated says that nobody can tell when it was asked for: it ends later than the
	// longest that a backend lets one live, from now, or never.
	IsUndated bool
}

// clockMargin is for clocks that differ.
const clockMargin = time.Minute

// FindReset returns a reset token that either backend keeps, under password_reset:{token}
// or reset_token:{token}. ok is false when neither does, when what is kept is no account's
// id, and when the two disagree. Only a text that has the form of a token is looked up: a
// UUID, spelled as both write it.
func (s *Store) FindReset(ctx context.Context, token string) (found Reset, ok bool, err error) {
	if _, ok := canonical(token); !ok {
		return Reset{}, false, nil
	}
	kept, lives, err := s.values(ctx, resetKeys(token))
	if err != nil {
		return Reset{}, false, err
	}
	for i, value := range kept {
		id, ok := canonical(value)
		if !ok || found.UserID != uuid.Nil && id != found.UserID {
			return Reset{}, false, nil
		}
		found.UserID = id
		// -1: no end; -2: a key that has just ended.
		found.IsUndated = found.IsUndated || lives[i] == -1 || lives[i] > s.cfg.ResetLife+clockMargin
	}
	return found, found.UserID != uuid.Nil, nil
}

// DeleteReset takes a spent reset token from the backends, which would accept it again.
func (s *Store) DeleteReset(ctx context.Context, token string) error {
	return s.delete(ctx, resetKeys(token))
}

func resetKeys(token string) []string {
	return []string{"password_reset:" + token, "reset_token:" + token}
}

// Counter is what the Go backend counted of an address.
type Counter struct {
	// Address is as it was typed.
	Address string
	// Failures is at least 1.
	Failures int
	// Ends is after how long it forgets them.
	Ends time.Duration
}

// Attempts reads the counters of failed logins, in one round trip; addresses without
// one are left out. What cannot be read as a number counts as too many, and so does what
// has the address refused by the Go backend.
//
// A counter without an end gets one: the Go backend would refuse its address for ever.
func (s *Store) Attempts(ctx context.Context, addresses ...string) ([]Counter, error) {
	counts, lives := make([]*redis.StringCmd, len(addresses)), make([]*redis.DurationCmd, len(addresses))
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, address := range addresses {
			counts[i], lives[i] = pipe.Get(ctx, attemptsKey(address)), pipe.PTTL(ctx, attemptsKey(address))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable("read failed logins", err)
	}
	var found []Counter
	for i, address := range addresses {
		// The pipeline tells the first error only.
		if err := errors.Join(counts[i].Err(), lives[i].Err()); errors.Is(err, redis.Nil) {
			continue
		} else if err != nil {
			return nil, unavailable("read failed logins", err)
		}
		failures, err := strconv.Atoi(counts[i].Val())
		if err != nil || failures >= s.cfg.Attempts {
			failures = math.MaxInt // it refuses the address
		}
		ends := lives[i].Val()
		if ends == -1 { // no end; -2 is a key that has just ended
			ends = s.cfg.AttemptsWindow
			if err := s.redis.PExpire(ctx, attemptsKey(address), ends).Err(); err != nil {
				return nil, unavailable("let failed logins end", err)
			}
		}
		if failures > 0 && ends > 0 {
			found = append(found, Counter{Address: address, Failures: failures, Ends: ends})
		}
	}
	return found, nil
}

// DeleteAttempts ends the counters of addresses.
func (s *Store) DeleteAttempts(ctx context.Context, addresses ...string) error {
	keys := make([]string, len(addresses))
	for i, address := range addresses {
		keys[i] = attemptsKey(address)
	}
	return s.delete(ctx, keys)
}

func attemptsKey(address string) string { return "login_attempts:" + address }

// values reads those of the keys that are there, and how long they live, in one round
// trip. Not with MGET: in a cluster the keys are in different places.
func (s *Store) values(ctx context.Context, keys []string) (values []string, lives []time.Duration, err error) {
	replies, ends := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			replies[i], ends[i] = pipe.Get(ctx, key), pipe.PTTL(ctx, key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, nil, unavailable("read a token", err)
	}
	for i, reply := range replies {
		// The pipeline tells the first error only.
		switch err := errors.Join(reply.Err(), ends[i].Err()); {
		case err == nil:
			values, lives = append(values, reply.Val()), append(lives, ends[i].Val())
		case !errors.Is(err, redis.Nil):
			return nil, nil, unavailable("read a token", err)
		}
	}
	return values, lives, nil
}

func (s *Store) delete(ctx context.Context, keys []string) error {
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, key := range keys {
			pipe.Del(ctx, key)
		}
		return nil
	})
	if err != nil {
		return unavailable("delete what was spent", err)
	}
	return nil
}

// canonical reads a UUID in the one spelling that both backends write.
func canonical(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && id != uuid.Nil && id.String() == text
}

// unavailable reports that Redis did not answer: a caller that cannot ask must refuse.
func unavailable(doing string, err error) error {
	return fmt.Errorf("legacy: %s: %w: %w", doing, refusal.ErrStoreUnavailable, err)
}
