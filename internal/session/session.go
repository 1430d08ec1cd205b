// Package session keeps sessions in Redis, and advances them with refresh tokens that are a generation counter under
// a MAC rather than a stored secret.
//
// A token names its session and a generation. The session knows the generation that comes next. Equal: the session
// advances by one and the successor is handed out. One behind while the successor is unused: the answer was lost, or
// two requests raced, and the identical successor is handed out again. Further behind: someone kept a spent token.
// Ahead, under a valid MAC: Redis lost writes, and the session catches up.
//
// Redis holds no token, no MAC and no request id. It is not the place that remembers revocations either: losing it
// logs people out, and restoring an old copy of it revives nothing that a ledger elsewhere has revoked. Callers
// therefore Open a token, ask the ledger about the user and the session, and only then Rotate.
//
// An index for each user lists their sessions, for display and for a limit. Losing it loses nothing else.
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

// expiryMargin is how long Redis keeps a session beyond its end, so that replicas whose clocks differ a little agree
// on "ended" before it becomes "unknown".
const expiryMargin = time.Minute

// maxMillis bounds the clock. Two to the 52nd milliseconds are the year 144683, and adding the longest life stays
// below 2^53, up to which the numbers of Redis scripts are exact.
const maxMillis = 1 << 52

// maxLife bounds the lives that can be configured: a time.Duration overflows after 292 years.
const maxLife = 100 * 365 * 24 * time.Hour

// Config has what New needs.
type Config struct {
	// Redis is read on primaries only: a replica that lags behind would make new sessions unknown. Every command uses
	// one key, so a cluster is fine.
	Redis redis.UniversalClient
	// MACKeys are secrets of 32 random bytes or more, used for nothing else: the current one first, then the previous
	// ones, whose tokens are still accepted.
	MACKeys [][]byte
	// IdleTTL is how long a session lives without being advanced; MaxTTL is how long it lives at most. Both count in
	// whole milliseconds, from one to those of 100 years.
	IdleTTL, MaxTTL time.Duration
	// Grace is for how long after an advance, inclusively, the spent token yields its successor again without a
	// request id. Keep it at seconds: two holders of one line of tokens go unnoticed for as long.
	Grace time.Duration
	// Limit is how many sessions a user can have: another login ends the oldest ones. 0: any number.
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
	now              func() time.Time
	rotate           *redis.Script
	index            *redis.Script
	delete           *redis.Script
}

// New returns a store, or says which field of cfg is wrong. It does not connect.
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
	return &Store{
		redis:  cfg.Redis,
		keys:   keys,
		idle:   cfg.IdleTTL.Milliseconds(),
		max:    cfg.MaxTTL.Milliseconds(),
		grace:  cfg.Grace.Milliseconds(),
		limit:  cfg.Limit,
		now:    cfg.Now,
		rotate: redis.NewScript(rotateLua),
		index:  redis.NewScript(indexLua),
		delete: redis.NewScript(deleteLua),
	}, nil
}

// Session is one login on one device. Its times are in UTC and in whole milliseconds.
type Session struct {
	ID, UserID uuid.UUID
	// Generation is the one that the next refresh token to be spent carries.
	Generation uint64
	// Ledger is the position of the revocation ledger at which the user was authenticated. It never changes.
	Position int64
	// CreateTime is when the session started, AuthTime when the user last proved who they are.
	CreateTime, AuthTime time.Time
	// RotateTime is the last advance, or the creation.
	RotateTime time.Time
	// IdleEnd moves with every advance and is never after End. End never moves.
	IdleEnd, End time.Time
	// DeviceName and Address are for display, as the caller of Create gave them.
	DeviceName, Address string
	// AMR are the authentication methods of RFC 8176, such as "pwd".
	AMR []string
}

// Ended reports whether the idle or the absolute end has been reached.
func (s Session) Ended(now time.Time) bool {
	return !now.Before(s.IdleEnd) || !now.Before(s.End)
}

// Compare orders sessions by their logins, older ones first, and those of one millisecond by their ids.
func (s Session) Compare(other Session) int {
	return cmp.Or(s.CreateTime.Compare(other.CreateTime), bytes.Compare(s.ID[:], other.ID[:]))
}

// Start describes a session to create.
type Start struct {
	// UserID must not be zero.
	UserID uuid.UUID
	// Ledger is the position read together with the user's password hash, before it was checked.
	Position int64
	// DeviceName and Address are kept for display. Their lengths are the caller's business.
	DeviceName, Address string
	AMR                 []string
	// ID is the session's, for a caller that must write it down before the session exists. uuid.Nil: a random one.
	ID uuid.UUID
	// AuthTime is when the user last proved who they are, for one who did so before this session: never later than now.
	// Zero: now.
	AuthTime time.Time
}

// Created is what a login leads to.
type Created struct {
	Session Session
	// RefreshToken is the session's first.
	RefreshToken string
	// Evicted are the user's sessions that are over the limit now, for the caller to end: in the ledger, then with
	// Delete. They live until then. A session is handed to one login only, unless it is still there after 30 seconds.
	Evicted []uuid.UUID
}

// Create starts a session. The errors are ErrUnavailable, and those of arguments or a clock that are out of range.
//
// The index of the user is written first: a session that is not in it would not be seen by its owner.
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
	text, err := s.keys.Current().Issue(rec.Binding, refreshtoken.FirstGeneration)
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
	// In one transaction: a session without an expiry would stay for good.
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
		key:     s.keys.Current().ID.String(),
		device:  start.DeviceName, address: start.Address,
		amr: slices.Clone(start.AMR),
	}
	if _, err := rand.Read(rec.Salt[:]); err != nil {
		return record{}, fmt.Errorf("session: make a salt: %w", err)
	}
	return rec, nil
}

// millis reads the clock.
func (s *Store) millis() (int64, error) {
	now := s.now().UnixMilli()
	if now < 0 || now > maxMillis {
		return 0, errClock
	}
	return now, nil
}

// lifetime is relative: the clock of Redis then needs to run at the right speed, not to be right.
func (s *Store) lifetime(idleEnd, now int64) time.Duration {
	return time.Duration(idleEnd-now)*time.Millisecond + expiryMargin
}

// redisKey has the session id as its hash tag, so that a cluster keeps what belongs to a session in one slot.
func redisKey(id uuid.UUID) string { return "latchkey:session:{" + id.String() + "}" }
