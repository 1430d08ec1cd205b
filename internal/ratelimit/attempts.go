package ratelimit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// attemptsLua holds every operation on the log of one subject.
//
//go:embed attempts.lua
var attemptsLua string

const (
	defaultLimit = 5
	// defaultTotal times the limit is what all sources of a subject have together.
	defaultTotal  = 10
	defaultWindow = 15 * time.Minute
	defaultHold   = time.Minute

	// maxLimit keeps the script, which reads the whole log, at some tens of microseconds.
	maxLimit = 1000
	minKey   = sha256.Size

	// inFlightWait is how long a call waits for the outcome of others. Longer than a queue of password hashes takes,
	// shorter than people wait.
	inFlightWait = 5 * time.Second
	// inFlightRetry is what a call that waited in vain is told.
	inFlightRetry = time.Second
	// pollPause and pollSpread bound the pause between two looks, spread so that those who wait do not march in step. A
	// password hash takes 22 ms.
	pollPause  = 10 * time.Millisecond
	pollSpread = 15 * time.Millisecond

	// failuresUnit separates two numbers in one answer of the script: both are below it.
	failuresUnit = 10_000

	// settleTimeout bounds how long a verdict, which does not end with its call, may take to write.
	settleTimeout = 5 * time.Second
	// expiryMargin keeps logs a little longer than they count, as the clocks of replicas differ.
	expiryMargin = time.Minute
)

// AttemptsConfig has what NewAttempts needs.
type AttemptsConfig struct {
	Redis redis.UniversalClient
	// Name tells limiters apart in Redis: letters, digits and dashes. "login" makes keys latchkey:attempts:login:{…}.
	Name string
	// Key is 32 random bytes or more. Redis holds subjects as a hash under this key, so no addresses.
	Key []byte
	// Limit is how many failures one source of a subject may have in any Window: 5 when zero, 1000 at most.
	Limit int
	// Total is how many all sources of a subject may have together: ten times Limit when zero, 1000 at most. It bounds
	// guesses that come from everywhere, and is so much larger that one source cannot keep the others out.
	Total int
	// Window is 15 minutes when zero, 366 days at most, and counts in whole milliseconds.
	Window time.Duration
	// Hold is how long a reservation is open when nobody settles it, as its replica has crashed: a minute when zero.
	// It is a failure from then on, of the time when it was made: what it checked is not known.
	Hold time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Attempts lets each source of a subject fail at most Limit times in any Window, and all its sources together Total
// times. A subject is what is guessed at, a source who guesses: a network, a device, a session. It is a log of the times
// of the failures, so there are no boundaries at which twice as many fit. Parallel attempts reserve their place before
// anything is checked, so they cannot pass together where one would have been the last. It is safe for concurrent use.
type Attempts struct {
	redis  redis.UniversalClient
	name   string
	key    []byte
	limit  int
	total  int
	window int64 // milliseconds
	hold   int64 // milliseconds
	now    func() time.Time
	script *redis.Script
}

// NewAttempts returns a limiter, or says which field of cfg is wrong. It does not connect.
func NewAttempts(cfg AttemptsConfig) (*Attempts, error) {
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	if cfg.Total == 0 {
		cfg.Total = min(defaultTotal*cfg.Limit, maxLimit)
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Hold == 0 {
		cfg.Hold = defaultHold
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switch {
	case cfg.Redis == nil:
		return nil, errors.New("ratelimit: Redis is nil")
	case cfg.Name == "" || strings.Trim(cfg.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
		return nil, fmt.Errorf("ratelimit: Name %q: use letters, digits and dashes", cfg.Name)
	case len(cfg.Key) < minKey:
		return nil, fmt.Errorf("ratelimit: Key has %d bytes: use %d random bytes or more", len(cfg.Key), minKey)
	case cfg.Limit < 1 || cfg.Limit > maxLimit:
		return nil, fmt.Errorf("ratelimit: Limit %d: not between 1 and %d", cfg.Limit, maxLimit)
	case cfg.Total < cfg.Limit || cfg.Total > maxLimit:
		return nil, fmt.Errorf("ratelimit: Total %d: not between Limit (%d) and %d", cfg.Total, cfg.Limit, maxLimit)
	case cfg.Window < time.Millisecond || cfg.Window > maxSpan:
		return nil, fmt.Errorf("ratelimit: Window %v: not between a millisecond and %v", cfg.Window, maxSpan)
	case cfg.Hold < time.Millisecond || cfg.Hold > maxSpan:
		return nil, fmt.Errorf("ratelimit: Hold %v: not between a millisecond and %v", cfg.Hold, maxSpan)
	}
	return &Attempts{
		redis:  cfg.Redis,
		name:   cfg.Name,
		key:    bytes.Clone(cfg.Key),
		limit:  cfg.Limit,
		total:  cfg.Total,
		window: cfg.Window.Milliseconds(),
		hold:   cfg.Hold.Milliseconds(),
		now:    cfg.Now,
		script: redis.NewScript(attemptsLua),
	}, nil
}

// Attempt is a reservation. Exactly one of Fail, Succeed and Release settles it; further calls do nothing. A verdict
// is written even when ctx is cancelled: or hanging up right after a wrong password would make the failure not count.
type Attempt struct {
	of      *Attempts
	subject string // the key in Redis
	id      string
	settled atomic.Bool
}

// Failures are how many count within the window: those of one source, and those of all.
type Failures struct{ Source, All int }

// Reserve takes one of the places that the failures of a source, and of its subject, have left. When they have left
// none, it returns a
// *LimitedError that says when the next place comes free. When failures and reservations together fill all places,
// what becomes of those in flight decides, and Reserve waits for it: until ctx is done, and five seconds at most. So
// any number of parallel attempts that will succeed do pass, a few at a time.
//
// The errors are *LimitedError, ErrUnavailable, and ctx's own when it is cancelled while waiting.
func (a *Attempts) Reserve(ctx context.Context, subject, source string) (*Attempt, error) {
	attempt := a.attempt(subject, source)
	if err := a.enter(ctx, "reserve", attempt); err != nil {
		return nil, err
	}
	return attempt, nil
}

// Take is Reserve and Fail in one, where every call counts whatever comes of it. Its errors are those of Reserve.
func (a *Attempts) Take(ctx context.Context, subject, source string) error {
	return a.enter(ctx, "take", a.attempt(subject, source))
}

// attempt names a new one. The source is in the name and hashed, so that what is stored has the form that it had
// without sources.
func (a *Attempts) attempt(subject, source string) *Attempt {
	return &Attempt{of: a, subject: a.redisKey(subject), id: rand.Text() + "@" + a.SourceHash(source)}
}

// Limits are how many failures a source may have, and all sources of a subject together.
func (a *Attempts) Limits() (limit, total int) { return a.limit, a.total }

// SourceHash is what may be stored of a source: it tells two apart, and neither where they are.
func (a *Attempts) SourceHash(source string) string { return a.shortHash("source", source) }

// Carry counts failures that another counter holds against every source: n of them, which all leave the window when that counter ends, after
// ends. source names the counter among those of the subject. Carrying the same ones again changes nothing, a counter
// that has grown adds what it has grown by, and one that has ended adds nothing. Succeed of any source forgets
// these failures: end the counter too, or it is carried again. The errors are ErrUnavailable and that of a wrong clock.
func (a *Attempts) Carry(ctx context.Context, subject, source string, n int, ends time.Duration) error {
	left := min(ends.Milliseconds(), a.window)
	if n <= 0 || left <= 0 {
		return nil
	}
	now, err := a.millis()
	if err != nil {
		return err
	}
	// No reservation has a colon in its name, and none of these an "@".
	prefix := a.shortHash("carried", source) + ":"
	return a.carry(ctx, a.redisKey(subject), prefix, min(n, a.limit), now, max(now+left-a.window, 0))
}

func (a *Attempts) carry(ctx context.Context, subject, prefix string, n int, now, at int64) error {
	_, err := a.runAt(ctx, now, "carry", subject, prefix, n, at)
	return err
}

// Fail makes the reservation a failure, at the time of this call, also one that has expired. It returns how many
// failures count then; none when the attempt was settled before.
func (t *Attempt) Fail(ctx context.Context) (Failures, error) {
	answer, err := t.settle(ctx, "fail")
	return Failures{Source: int(answer / failuresUnit), All: int(answer % failuresUnit)}, err
}

// Succeed gives the place back and clears the failures of the source. Those of other sources stay: somebody else made
// them.
func (t *Attempt) Succeed(ctx context.Context) error {
	_, err := t.settle(ctx, "succeed")
	return err
}

// Release gives the place back without a verdict: nothing was checked.
func (t *Attempt) Release(ctx context.Context) error {
	_, err := t.settle(ctx, "release")
	return err
}

func (t *Attempt) settle(ctx context.Context, verdict string) (int64, error) {
	if t.settled.Swap(true) {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	answer, err := t.of.run(ctx, verdict, t.subject, t.id)
	if err != nil {
		t.settled.Store(false) // so that the caller may try again
	}
	return answer, err
}

// enter asks for a place until there is a decision.
func (a *Attempts) enter(ctx context.Context, operation string, attempt *Attempt) error {
	// Bounded by real time: a.now may stand still, or leap.
	waiting, cancel := context.WithTimeout(ctx, inFlightWait)
	defer cancel()
	for waited := false; ; waited = true {
		answer, err := a.run(ctx, operation, attempt.subject, attempt.id)
		switch {
		case err != nil && waited && ctx.Err() != nil:
			// The wait ended while Redis was being asked, rather than in a pause.
		case err != nil:
			return err
		case answer > 0:
			return &LimitedError{RetryAfter: time.Duration(answer) * time.Millisecond}
		case answer == 0:
			return nil
		case pause(waiting):
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("ratelimit: wait for attempts in flight: %w", ctx.Err())
		}
		return &LimitedError{RetryAfter: inFlightRetry}
	}
}

// pause waits a moment, and reports false when ctx is done first.
func pause(ctx context.Context) bool {
	var random [1]byte
	_, _ = rand.Read(random[:]) // never fails, says its documentation
	timer := time.NewTimer(pollPause + pollSpread*time.Duration(random[0])/256)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// shortHash hides a name. 64 bits are enough to keep apart what one key holds.
func (a *Attempts) shortHash(use, name string) string {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte(a.name + "\x00" + use + "\x00" + name))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// run answers 0 when the operation is done, milliseconds when the subject is limited for so long, and -1 when attempts
// in flight decide.
func (a *Attempts) run(ctx context.Context, operation, subject, id string) (int64, error) {
	now, err := a.millis()
	if err != nil {
		return 0, err
	}
	return a.runAt(ctx, now, operation, subject, id)
}

func (a *Attempts) runAt(ctx context.Context, now int64, operation, subject, id string, more ...any) (int64, error) {
	// A reservation that nobody settles counts for the hold, and for what is left of the window then.
	expiry := max(a.window, a.hold) + expiryMargin.Milliseconds()
	args := append([]any{operation, id, now, a.limit, a.window, a.hold, expiry, a.total}, more...)
	answer, err := a.script.Run(ctx, a.redis, []string{subject}, args...).Int64()
	if err != nil {
		return 0, unavailable("count attempts", err)
	}
	return answer, nil
}

// millis reads the clock.
func (a *Attempts) millis() (int64, error) {
	now := a.now().UnixMilli()
	if now < 0 || now > maxClock {
		return 0, errClock
	}
	return now, nil
}

// redisKey hashes the subject. The whole hash is the hash tag, so that subjects spread over a cluster.
func (a *Attempts) redisKey(subject string) string {
	h := hmac.New(sha256.New, a.key)
	// The name keeps the same subject apart in two limiters with one key. It holds no NUL.
	h.Write([]byte(a.name + "\x00" + subject))
	return "latchkey:attempts:" + a.name + ":{" + hex.EncodeToString(h.Sum(nil)) + "}"
}
