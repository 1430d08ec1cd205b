package authverify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/revocations"
)

const (
	// upkeepInterval is how soon a silent stream is noticed and told of when no token is checked meanwhile.
	upkeepInterval = time.Second
	// dropInterval is how often revocations are dropped that reach no live token.
	dropInterval = time.Minute
	// usualTokenBytes has room for the tokens that Latchkey issues, so that hashing one copies nothing to the heap. A longer
	// one is copied there.
	usualTokenBytes = 1024
	// dropMargin keeps them for longer, for a clock that was ahead and is set back.
	dropMargin = 5 * time.Minute
)

// Verifier checks access tokens in this process. It fetches the issuer's keys and follows its revocations in
// the background; a check is a look-up in memory and, for a token that was not seen before, one signature
// check. It is safe for concurrent use.
type Verifier struct {
	cfg   Config
	rules accesstoken.Rules
	keys  *keySource
	fresh freshness
	// mismatches logs tokens of another issuer or audience: a setting is wrong, in this service or in Latchkey.
	mismatches mismatches
	// seen has the claims of tokens whose signature was checked, with the hash of the whole token as key. It
	// never has a verdict. It is an Otter cache, because reads take no lock, and many tokens that come only once
	// do not push out those that come often.
	seen        *otter.Cache[[sha256.Size]byte, *verified]
	revocations atomic.Pointer[revocations.Table]
	position    atomic.Int64
	streamErr   atomic.Pointer[error] // the last error of the stream, nil while it works
	snapshot    chan struct{}         // closed when the first snapshot is complete
	synced      sync.Once
	methods     sync.Map // gRPC method with a descriptor: requirement

	stop       context.CancelFunc
	background sync.WaitGroup
}

// verified is a token whose signature and claims are right. It never changes.
type verified struct {
	claims Claims
	keyID  string
	key    *accesstoken.Key
}

// NewVerifier returns a Verifier, and starts its goroutines, which run until Close. Tokens are refused with
// ErrUnavailable until the keys and the revocations have arrived: call Ready to wait for them. Its error
// names the field of config that is wrong.
func NewVerifier(config Config) (*Verifier, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	seen, err := otter.New(&otter.Options[[sha256.Size]byte, *verified]{MaximumSize: config.CacheSize})
	if err != nil {
		return nil, fmt.Errorf("authverify: %w", err)
	}
	v := &Verifier{
		cfg:   config,
		rules: config.rules(),
		keys:  newKeySource(config),
		fresh: freshness{
			limit: config.MaxStaleness, failOpen: config.FailOpen,
			tell: config.OnFreshness, log: config.Logger, now: config.Now,
		},
		mismatches: mismatches{log: config.Logger},
		seen:       seen, snapshot: make(chan struct{}),
	}
	v.revocations.Store(&revocations.Table{})
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.background.Go(func() { v.keys.run(ctx) })
	v.background.Go(func() { v.watch(ctx) })
	v.background.Go(func() { v.upkeep(ctx) })
	return v, nil
}

// Close stops the goroutines and waits for them. After that, revocations are not up to date.
func (v *Verifier) Close() {
	v.stop()
	v.background.Wait()
	v.fresh.distrust()
}

// Ready waits for the first keys and the first complete snapshot of revocations. If ctx ends first, it
// returns ErrUnavailable and says which of the two is missing.
func (v *Verifier) Ready(ctx context.Context) error {
	for _, part := range []struct {
		name string
		done <-chan struct{}
		err  func() error
	}{
		{"keys", v.keys.loaded, v.keys.gate.LastErr},
		{"revocations", v.snapshot, v.lastStreamErr},
	} {
		select {
		case <-part.done:
			continue
		case <-v.keys.closed:
			return fmt.Errorf("%w: the verifier is closed", ErrUnavailable)
		case <-ctx.Done():
		}
		if err := part.err(); err != nil {
			return fmt.Errorf("%w: no %s (%w): %w", ErrUnavailable, part.name, ctx.Err(), err)
		}
		return fmt.Errorf("%w: no %s: %w", ErrUnavailable, part.name, ctx.Err())
	}
	return nil
}

func (v *Verifier) lastStreamErr() error {
	if err := v.streamErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Staleness returns the age of the newest proof that all revocations are known here. It is between some
// milliseconds and a second if Latchkey can be reached, and the longest duration if there is no proof.
func (v *Verifier) Staleness() time.Duration { return v.fresh.staleness(v.cfg.Now()) }

// Position returns the newest position of the ledger up to which all rows are known here.
func (v *Verifier) Position() int64 { return v.position.Load() }

// Verify returns the claims of a genuine token that has not expired and was not revoked. It returns
// ErrInvalid, ErrExpired, ErrRevoked, or, if it cannot decide, ErrUnavailable. It sends no request, unless
// the key of the token is unknown: then the keys are fetched, at most once a second, and Verify waits until
// ctx ends at most.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	// The compiler inlines this method, so the claims are on the caller's stack, unless the caller keeps them
	// (TestVerifyAllocatesNothing).
	claims, err := v.claims(ctx, token)
	if err != nil {
		return nil, err
	}
	return &claims, nil
}

// claims returns a copy, which Verify places. If the compiler inlined this one, Verify would be too large for it.
//
//go:noinline
func (v *Verifier) claims(ctx context.Context, token string) (Claims, error) {
	found, err := v.check(ctx, token)
	if err != nil {
		return Claims{}, err
	}
	return found.claims, nil
}

// copyClaims returns claims that the caller may change, but for the elements of AMR.
func (f *verified) copyClaims() *Claims {
	claims := f.claims
	return &claims
}

func (v *Verifier) check(ctx context.Context, token string) (*verified, error) {
	found, err := v.authentic(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := v.judge(found); err != nil {
		return nil, err
	}
	return found, nil
}

// authentic checks the signature and the claims of a token.
func (v *Verifier) authentic(ctx context.Context, token string) (*verified, error) {
	if len(token) > accesstoken.MaxTokenBytes {
		return nil, accesstoken.Invalid("longer than 4096 bytes")
	}
	var buffer [usualTokenBytes]byte
	hash := sha256.Sum256(append(buffer[:0], token...))
	// A key that was removed, or replaced under its id, voids the cached tokens that it signed.
	if found, ok := v.seen.GetIfPresent(hash); ok && v.keys.get(found.keyID) == found.key {
		return found, nil
	}
	parsed, err := accesstoken.ParseToken(token)
	if err != nil {
		return nil, err
	}
	key, err := v.keys.find(ctx, parsed.KeyID())
	if err != nil {
		return nil, err
	}
	now := v.cfg.Now()
	claims, err := parsed.Claims(key, v.rules, now)
	if wrong, ok := errors.AsType[*accesstoken.MismatchError](err); ok {
		v.mismatches.tell(wrong, now)
	}
	if err != nil {
		return nil, err
	}
	found := &verified{claims: Claims(*claims), keyID: parsed.KeyID(), key: key}
	found.claims.AMR = slices.Clip(found.claims.AMR) // so that a caller's append makes a new array
	v.seen.Set(hash, found)
	return found, nil
}

// judge returns nil if a genuine token has not expired and was not revoked.
func (v *Verifier) judge(found *verified) error {
	now := v.cfg.Now()
	// Read the proof before the revocations. In the other order, new rows and their proof could arrive in
	// between, and this would trust the old rows because of the new proof.
	fresh := v.fresh.check(now)
	revoked := v.revocations.Load()
	claims := &found.claims
	switch {
	case revoked.RefusesKey(found.keyID):
		return accesstoken.Invalid("its key was revoked")
	case !now.Before(claims.ExpireTime):
		return ErrExpired
	case revoked.Refuses(claims.UserID, claims.SessionID, claims.Position, found.keyID):
		return ErrRevoked
	case !fresh && !v.cfg.FailOpen:
		return fmt.Errorf("%w: revocations are not up to date", ErrUnavailable)
	}
	return nil
}

// upkeep notices staleness if no token is checked, and drops old revocations.
func (v *Verifier) upkeep(ctx context.Context) {
	ticks := time.NewTicker(upkeepInterval)
	defer ticks.Stop()
	for last := v.cfg.Now(); ; {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		now := v.cfg.Now()
		v.fresh.check(now)
		if elapsed(last, now) >= dropInterval {
			v.revocations.Load().DropExpired(now.Add(-dropMargin))
			last = now
		}
	}
}
