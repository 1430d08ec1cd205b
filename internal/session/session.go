// Package session keeps sessions in Redis and rotates their refresh tokens. A refresh token is a generation
// number under a MAC (internal/refreshtoken), not a stored secret.
//
// A token names its session and a generation. The session stores the generation of the next token to be
// spent:
//   - Equal: the session advances by one, and the caller gets the next token, the successor.
//   - One behind, and the successor is unused: the answer was lost, or two requests raced. The caller gets the same
//     successor again.
//   - Further behind: somebody kept a spent token.
//   - Ahead, with a valid MAC: Redis lost writes, and the session catches up.
//
// Redis has no token, no MAC and no request id. It does not store revocations either: if Redis is lost,
// people log in again, and an old copy of Redis revives nothing that the ledger has revoked. So callers Claim
// a token, ask the ledger about the user and the session, and only then Rotate.
//
// An index for each user lists the user's sessions, for display and for the limit. If it is lost, nothing
// else is.
package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// expiryMargin is how long Redis keeps a session after its end. Within it, replicas whose clocks differ a
// little all answer "ended". After it, the session is unknown.
const expiryMargin = time.Minute

// maxMillis is the latest time of the clock. 2^52 ms is in the year 144683. Even with the longest life added,
// the sum is below 2^53, up to which the numbers of Redis scripts are exact.
const maxMillis = 1 << 52

// maxLife is the longest life that Config accepts: a time.Duration overflows after 292 years.
const maxLife = 100 * 365 * 24 * time.Hour

// Config has the settings of a Store.
type Config struct {
	// Redis must read from primaries only: on a replica that is behind, new sessions are unknown. Each command
	// uses one key, so a cluster is fine.
	Redis redis.UniversalClient
	// MACKeys are secrets of 32 random bytes or more that have no other use: the current one first, then the
	// previous ones, whose tokens are still accepted.
	MACKeys [][]byte
	// IdleTTL is how long a session lives without an advance, MaxTTL how long it lives at most. Both are from 1
	// ms to 100 years; fractions of a millisecond are dropped.
	IdleTTL, MaxTTL time.Duration
	// Grace is how long after an advance the spent token returns its successor again, without a request id. Keep
	// it at some seconds: for that time, nobody notices that two clients share a token.
	Grace time.Duration
	// Long says whether new tokens are long ones, which Claim needs no store for. Nil: they are. Tokens of both forms
	// are accepted in any case. It must not change anything that was answered before, and does not: Redis stores which
	// form the latest token has.
	Long func() bool
	// Limit is how many sessions a user can have. One more login ends the oldest ones. 0: no limit.
	Limit int
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Store creates, opens, advances and deletes sessions. It is safe for concurrent use.
type Store struct {
	redis redis.UniversalClient
	keys  refreshtoken.Keys
	// In milliseconds.
	idle, max, grace int64
	limit            int
	long             func() bool
	now              func() time.Time
	rotate           *redis.Script
	renew            *redis.Script
	index            *redis.Script
	delete           *redis.Script
}

// New returns a store. Its error names the field of cfg that is wrong. It does not connect.
func New(cfg Config) (*Store, error) {
	if cfg.Redis == nil {
		return nil, errors.New("session: Redis is nil")
	}
	keys, err := refreshtoken.NewKeys(cfg.MACKeys)
	if err != nil {
		return nil, err
	}
	for name, life := range map[string]time.Duration{"IdleTTL": cfg.IdleTTL, "MaxTTL": cfg.MaxTTL} {
		if life < time.Millisecond || life > maxLife {
			return nil, fmt.Errorf("session: %s %v: not between one millisecond and 100 years", name, life)
		}
	}
	if cfg.Grace < 0 {
		return nil, fmt.Errorf("session: Grace %v is negative", cfg.Grace)
	}
	if cfg.Limit < 0 {
		return nil, fmt.Errorf("session: Limit %d is negative", cfg.Limit)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Long == nil {
		cfg.Long = func() bool { return true }
	}
	return &Store{
		redis:  cfg.Redis,
		keys:   keys,
		idle:   cfg.IdleTTL.Milliseconds(),
		max:    cfg.MaxTTL.Milliseconds(),
		grace:  cfg.Grace.Milliseconds(),
		limit:  cfg.Limit,
		long:   cfg.Long,
		now:    cfg.Now,
		rotate: redis.NewScript(rotateLua),
		renew:  redis.NewScript(renewLua),
		index:  redis.NewScript(indexLua),
		delete: redis.NewScript(deleteLua),
	}, nil
}

// Session is one login on one device. Its times are in UTC and in whole milliseconds.
type Session struct {
	ID, UserID uuid.UUID
	// Generation is that of the next refresh token to be spent.
	Generation uint64
	// Position is the position of the ledger at the login. It never changes.
	Position int64
	// CreateTime is when the session started, AuthTime when the user was last authenticated: see Renew.
	CreateTime, AuthTime time.Time
	// RotateTime is the last advance, or the creation.
	RotateTime time.Time
	// IdleEnd changes with each advance, and is never after End. End never changes.
	IdleEnd, End time.Time
	// DeviceName and Address are for display, as the caller of Create gave them.
	DeviceName, Address string
	// AMR are the methods of that authentication (RFC 8176), such as "pwd".
	AMR []string
}

// Ended returns whether the session has ended at now: IdleEnd or End has passed.
func (s Session) Ended(now time.Time) bool {
	return !now.Before(s.IdleEnd) || !now.Before(s.End)
}

// Compare orders sessions by the time of their login, the oldest first, and those of the same millisecond by
// their ids.
func (s Session) Compare(other Session) int {
	return cmp.Or(s.CreateTime.Compare(other.CreateTime), bytes.Compare(s.ID[:], other.ID[:]))
}

// Start describes a session to create.
type Start struct {
	// UserID must not be zero.
	UserID uuid.UUID
	// Position is the position of the ledger that was read together with the user's password hash, before the
	// password was checked.
	Position int64
	// DeviceName and Address are for display. The caller limits their lengths.
	DeviceName, Address string
	AMR                 []string
	// ID is the id of the session, for a caller that must store it before the session exists. uuid.Nil: a random
	// one.
	ID uuid.UUID
	// AuthTime is when the user last logged in, if that was before this session. Not later than now. Zero: now.
	AuthTime time.Time
}

// Created is the result of Create.
type Created struct {
	Session Session
	// RefreshToken is the first one of the session.
	RefreshToken string
	// Evicted are the user's sessions that are over the limit now. The caller must end them: first in the
	// ledger, then with Delete. Until then, they continue. Only one login gets a session to end, unless the
	// session still exists after 30 seconds.
	Evicted []uuid.UUID
}

// Create starts a session. The errors are ErrUnavailable, and those for arguments or a clock that are out of
// range.
//
// It writes the user's index first: the owner would not see a session that is not in the index.
func (s *Store) Create(ctx context.Context, start Start) (Created, error) {
	if start.UserID == uuid.Nil {
		return Created{}, errors.New("session: the user id is zero")
	}
	now, err := s.millis()
	if err != nil {
		return Created{}, err
	}
	rec, err := s.newRecord(start, now)
	if err != nil {
		return Created{}, err
	}
	text, err := s.keys.Named(rec.key).Issue(rec.Binding, refreshtoken.FirstGeneration)
	if err != nil {
		return Created{}, err
	}
	fields, err := rec.fields()
	if err != nil {
		return Created{}, err
	}
	evicted, err := s.enter(ctx, rec.UserID, rec.SessionID, now)
	if err != nil {
		return Created{}, err
	}
	// In one transaction: a session without an expiry would never be deleted.
	_, err = s.redis.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.HSet(ctx, redisKey(rec.SessionID), fields...)
		tx.PExpire(ctx, redisKey(rec.SessionID), s.lifetime(rec.idleEnd, now))
		return nil
	})
	if err != nil {
		return Created{}, unavailable("create a session", err)
	}
	return Created{Session: rec.session(), RefreshToken: text, Evicted: evicted}, nil
}

func (s *Store) newRecord(start Start, now int64) (record, error) {
	id, authenticated := start.ID, now
	if id == uuid.Nil {
		var err error
		if id, err = uuid.NewRandom(); err != nil {
			return record{}, fmt.Errorf("session: make a session id: %w", err)
		}
	}
	if !start.AuthTime.IsZero() {
		authenticated = min(max(start.AuthTime.UnixMilli(), 0), now)
	}
	end := now + s.max
	rec := record{
		Binding:    refreshtoken.Binding{SessionID: id, UserID: start.UserID, End: end, Position: start.Position},
		generation: refreshtoken.FirstGeneration,
		created:    now, authenticated: authenticated, rotated: now,
		idleEnd: min(now+s.idle, end),
		key:     s.maker(),
		device:  start.DeviceName, address: start.Address,
		amr: slices.Clone(start.AMR),
	}
	if _, err := rand.Read(rec.Salt[:]); err != nil {
		return record{}, fmt.Errorf("session: make a salt: %w", err)
	}
	return rec, nil
}

// maker returns the name of the maker of new tokens.
func (s *Store) maker() string {
	return refreshtoken.Maker{Key: s.keys.Current(), Long: s.long()}.Name()
}

// millis reads the clock.
func (s *Store) millis() (int64, error) {
	now := s.now().UnixMilli()
	if now < 0 || now > maxMillis {
		return 0, errClock
	}
	return now, nil
}

// lifetime returns a relative expiry, so the clock of Redis need not be right, as long as its speed is.
func (s *Store) lifetime(idleEnd, now int64) time.Duration {
	return time.Duration(idleEnd-now)*time.Millisecond + expiryMargin
}

// redisKey has the session id as its hash tag, so that a cluster keeps all keys of a session in one slot.
func redisKey(id uuid.UUID) string { return "latchkey:session:{" + id.String() + "}" }
