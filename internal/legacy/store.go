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

// StoreConfig has the settings that the older backends had. A zero value is their default.
type StoreConfig struct {
	// ResetLife is the longest life of a reset token of either backend. Zero: an hour.
	ResetLife time.Duration
	// Attempts is the number of failed logins after which the Go backend refuses an address. Zero: 5.
	Attempts int
	// AttemptsWindow is how long that backend counts them. Zero: 15 minutes.
	AttemptsWindow time.Duration
}

// Defaults returns the config with the backends' defaults for all fields that are zero.
func (c StoreConfig) Defaults() StoreConfig {
	return StoreConfig{cmp.Or(c.ResetLife, time.Hour), cmp.Or(c.Attempts, 5), cmp.Or(c.AttemptsWindow, 15*time.Minute)}
}

// Store reads the keys that the older backends left in Redis. It changes nothing that they still need: spent tokens are
// stored in PostgreSQL.
type Store struct {
	redis redis.UniversalClient
	cfg   StoreConfig
}

// NewStore uses the Redis that the older backends used.
func NewStore(client redis.UniversalClient, cfg StoreConfig) *Store {
	return &Store{client, cfg.Defaults()}
}

// ResetLife is the longest life of a reset token of either backend.
func (s *Store) ResetLife() time.Duration { return s.cfg.ResetLife }

// IsRefresh reports whether the token is a refresh token that its backend keeps. The Go backend keeps it under
// refresh_token:{jti}, with the user's id as value. The Rust backend keeps it under refresh_token:{user id}, with the
// token itself as value; its other tokens look the same.
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
	// IsUndated means that nobody can tell when the token was requested: it ends later than any token that a backend
	// would make now, or never.
	IsUndated bool
}

// clockMargin is for clocks that differ.
const clockMargin = time.Minute

// FindReset returns a reset token that either backend keeps, under password_reset:{token} or reset_token:{token}. ok is
// false if neither does, if the value is not the id of an account, and if the two disagree. Only a text that has the
// form of a token is looked up: a UUID in the spelling that both backends write.
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

// DeleteReset deletes a spent reset token, which the backends would accept again.
func (s *Store) DeleteReset(ctx context.Context, token string) error {
	return s.delete(ctx, resetKeys(token))
}

func resetKeys(token string) []string {
	return []string{"password_reset:" + token, "reset_token:" + token}
}

// Counter is the Go backend's count of failed logins for an address.
type Counter struct {
	// Address is the address as it was typed.
	Address string
	// Failures is at least 1.
	Failures int
	// Ends is the time after which that backend drops them.
	Ends time.Duration
}

// Attempts reads the counters of failed logins in one round trip, and leaves out addresses without one. A value that is
// not a number counts as too many failures, and so does a number at which the Go backend refuses the address.
//
// It gives an end to a counter without one: otherwise the Go backend would refuse the address for ever.
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
		// The pipeline returns only the first error.
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

// DeleteAttempts deletes the counters of addresses.
func (s *Store) DeleteAttempts(ctx context.Context, addresses ...string) error {
	keys := make([]string, len(addresses))
	for i, address := range addresses {
		keys[i] = attemptsKey(address)
	}
	return s.delete(ctx, keys)
}

func attemptsKey(address string) string { return "login_attempts:" + address }

// values reads the keys that exist, and how long they live, in one round trip. It does not use MGET: in a cluster the
// keys are in different places.
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
		// The pipeline returns only the first error.
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

// canonical reads a UUID in the only spelling that both backends write.
func canonical(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && id != uuid.Nil && id.String() == text
}

// unavailable reports that Redis did not answer. A caller without an answer must refuse.
func unavailable(doing string, err error) error {
	return fmt.Errorf("legacy: %s: %w: %w", doing, refusal.ErrStoreUnavailable, err)
}
