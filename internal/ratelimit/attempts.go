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

// attemptsLua has all operations on the log of one subject.
//
//go:embed attempts.lua
var attemptsLua string

const (
	defaultLimit = 5
	// defaultTotal times the limit is the default limit of all sources of a subject together.
	defaultTotal  = 10
	defaultWindow = 15 * time.Minute
	defaultHold   = time.Minute

	// maxLimit keeps the time of the script, which reads the whole log, at some tens of microseconds.
	maxLimit = 1000
	minKey   = sha256.Size

	// inFlightWait is how long a call waits until other attempts are settled. It is longer than a queue of password
	// hashes, and shorter than people wait.
	inFlightWait = 5 * time.Second
	// inFlightRetry is the RetryAfter of a call that waited in vain.
	inFlightRetry = time.Second
	// pollPause and pollSpread give the pause between two polls, which is random, so that waiting calls do not all poll
	// at the same time. A password hash takes 22 ms.
	pollPause  = 10 * time.Millisecond
	pollSpread = 15 * time.Millisecond

	// failuresUnit separates the two numbers in one answer of the script. Both are smaller.
	failuresUnit = 10_000

	// settleTimeout is how long settling may take. It continues if its caller hangs up.
	settleTimeout = 5 * time.Second
	// expiryMargin keeps logs a little longer than their window, since the clocks of replicas differ.
	expiryMargin = time.Minute
)

// AttemptsConfig has what NewAttempts needs.
type AttemptsConfig struct {
	Redis redis.UniversalClient
	// Name is the name of the limiter in Redis: letters, digits and dashes. "login" makes keys
	// latchkey:attempts:login:{…}.
	Name string
	// Key is 32 random bytes or more. Subjects are stored in Redis as hashes under this key, so Redis has no addresses.
	Key []byte
	// Limit is how many failures one source of a subject may have in any Window: 1000 at most; zero means 5.
	Limit int
	// Total is how many failures all sources of a subject may have together: 1000 at most; zero means ten times Limit.
	// It limits guesses from many sources, and is much larger than Limit, so that one source cannot lock the others
	// out.
	Total int
	// Window is 366 days at most; zero means 15 minutes. Fractions of a millisecond are dropped.
	Window time.Duration
	// Hold is how long a reservation stays open if nobody settles it because its replica has crashed; zero means a
	// minute. Then it counts as a failure at the time when it was made, since the password may have been compared.
	Hold time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Attempts allows each source of a subject Limit failures in any Window, and all sources of the subject together Total
// failures. A subject is an account whose password is guessed; a source is the network, device or session that guesses.
// The limiter stores the time of each failure, so no two adjacent windows allow twice as many. Each attempt reserves a
// place before the password is compared, so parallel attempts cannot exceed the limit. It is safe for concurrent use.
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

// NewAttempts returns a limiter. Its error names the field of cfg that is wrong. It does not connect.
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

// Attempt is a reservation. The first call of Fail, Succeed or Release settles it; further calls do nothing. Settling
// continues if ctx is cancelled: otherwise a client could avoid a failure by hanging up right after a wrong password.
type Attempt struct {
	of      *Attempts
	subject string // the key in Redis
	id      string
	settled atomic.Bool
}

// Failures are the numbers of failures in the window: those of one source, and those of all.
type Failures struct{ Source, All int }

// Reserve reserves one of the places that the failures of the source and of the subject have left. If none is left, it
// returns a *LimitedError that says when the next place is free. If failures and open reservations together fill all
// places, Reserve waits until one of the reservations is settled, for five seconds at most. So any number of parallel
// attempts with the right password pass, a few at a time.
//
// The errors are *LimitedError, ErrUnavailable, and that of ctx if ctx is cancelled during the wait.
func (a *Attempts) Reserve(ctx context.Context, subject, source string) (*Attempt, error) {
	attempt := a.attempt(subject, source)
	if err := a.enter(ctx, "reserve", attempt); err != nil {
		return nil, err
	}
	return attempt, nil
}

// Take is Reserve and Fail in one, for calls that all count. Its errors are those of Reserve.
func (a *Attempts) Take(ctx context.Context, subject, source string) error {
	return a.enter(ctx, "take", a.attempt(subject, source))
}

// attempt returns a new attempt with a random name. The hash of the source is a part of the name, so that the stored
// log has the same form as in versions without sources.
func (a *Attempts) attempt(subject, source string) *Attempt {
	return &Attempt{of: a, subject: a.redisKey(subject), id: rand.Text() + "@" + a.SourceHash(source)}
}

// Limits returns how many failures one source may have, and all sources of a subject together.
func (a *Attempts) Limits() (limit, total int) { return a.limit, a.total }

// SourceHash returns a hash of a source that may be stored: it tells sources apart, and does not reveal their
// addresses.
func (a *Attempts) SourceHash(source string) string { return a.shortHash("source", source) }

// Carry adds n failures from another counter. They count against every source, and leave the window when that counter
// expires, after the duration ends. source is the name of the counter. To carry the same failures again changes
// nothing; if the counter has grown, only the new ones are added. Succeed of any source deletes these failures, so
// delete the counter too, or they are carried again. The errors are ErrUnavailable and that for a clock that is out of
// range.
func (a *Attempts) Carry(ctx context.Context, subject, source string, n int, ends time.Duration) error {
	left := min(ends.Milliseconds(), a.window)
	if n <= 0 || left <= 0 {
		return nil
	}
	now, err := a.millis()
	if err != nil {
		return err
	}
	// The names of reservations have no colon, and these have no "@".
	prefix := a.shortHash("carried", source) + ":"
	return a.carry(ctx, a.redisKey(subject), prefix, min(n, a.limit), now, max(now+left-a.window, 0))
}

func (a *Attempts) carry(ctx context.Context, subject, prefix string, n int, now, at int64) error {
	_, err := a.runAt(ctx, now, "carry", subject, prefix, n, at)
	return err
}

// Fail makes the reservation a failure at the time of this call, even if it has expired. It returns how many failures
// there are now, or zeros if the attempt was settled before.
func (t *Attempt) Fail(ctx context.Context) (Failures, error) {
	answer, err := t.settle(ctx, "fail")
	return Failures{Source: int(answer / failuresUnit), All: int(answer % failuresUnit)}, err
}

// Succeed gives the place back and deletes the failures of the source. Those of other sources stay: other people made
// them.
func (t *Attempt) Succeed(ctx context.Context) error {
	_, err := t.settle(ctx, "succeed")
	return err
}

// Release gives the place back: nothing was compared.
func (t *Attempt) Release(ctx context.Context) error {
	_, err := t.settle(ctx, "release")
	return err
}

// settle runs the operation once.
func (t *Attempt) settle(ctx context.Context, operation string) (int64, error) {
	if t.settled.Swap(true) {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	answer, err := t.of.run(ctx, operation, t.subject, t.id)
	if err != nil {
		t.settled.Store(false) // so that the caller may try again
	}
	return answer, err
}

// enter asks for a place until Redis decides.
func (a *Attempts) enter(ctx context.Context, operation string, attempt *Attempt) error {
	// The wait uses real time: a.now may stop or jump.
	waiting, cancel := context.WithTimeout(ctx, inFlightWait)
	defer cancel()
	for waited := false; ; waited = true {
		answer, err := a.run(ctx, operation, attempt.subject, attempt.id)
		switch {
		case err != nil && waited && ctx.Err() != nil:
			// The wait ended during a call of Redis, not during a pause.
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

// pause waits a moment. It returns false if ctx ends first.
func pause(ctx context.Context) bool {
	var random [1]byte
	_, _ = rand.Read(random[:]) // it never returns an error
	timer := time.NewTimer(pollPause + pollSpread*time.Duration(random[0])/256)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// shortHash hashes a name. 64 bits are enough to tell the entries of one log apart.
func (a *Attempts) shortHash(use, name string) string {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte(a.name + "\x00" + use + "\x00" + name))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// run returns 0 if the operation is done, a number of milliseconds if the subject is limited for so long, and -1 if
// attempts that are not settled yet decide.
func (a *Attempts) run(ctx context.Context, operation, subject, id string) (int64, error) {
	now, err := a.millis()
	if err != nil {
		return 0, err
	}
	return a.runAt(ctx, now, operation, subject, id)
}

func (a *Attempts) runAt(ctx context.Context, now int64, operation, subject, id string, more ...any) (int64, error) {
	// A reservation that nobody settles counts for the hold, and then for the rest of the window.
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

// redisKey returns a key with a hash of the subject. The hash is the hash tag, so that subjects are spread over a
// cluster.
func (a *Attempts) redisKey(subject string) string {
	h := hmac.New(sha256.New, a.key)
	// With the name, two limiters with the same key have different hashes of a subject. The name has no NUL.
	h.Write([]byte(a.name + "\x00" + subject))
	return "latchkey:attempts:" + a.name + ":{" + hex.EncodeToString(h.Sum(nil)) + "}"
}
