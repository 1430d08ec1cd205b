package authverify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/reload"
)

const (
	// keysInterval is how often the keys are fetched even if nothing has changed. The stream reports each
	// change, so this is only for changes that the stream missed.
	keysInterval = 5 * time.Minute
	// keysMinInterval is the shortest time between two fetches for tokens with unknown key ids: anybody can send
	// such tokens.
	keysMinInterval = time.Second
	// keysTimeout is the limit for one fetch.
	keysTimeout = 5 * time.Second
	// maxJWKSBytes is far more than the handful of keys that an issuer has.
	maxJWKSBytes = 256 << 10
)

// keySource has the issuer's keys, and fetches them again, one fetch at a time. A look-up of a known key
// takes no lock.
type keySource struct {
	url    string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	keys   atomic.Pointer[map[string]*accesstoken.Key]
	loaded chan struct{} // closed once keys were fetched
	wake   chan struct{} // has a value if a fetch was requested
	closed chan struct{} // closed once run has returned

	gate reload.Gate // the fetches
}

func newKeySource(c Config) *keySource {
	k := &keySource{
		url: c.JWKSURL, client: c.HTTPClient, log: c.Logger, now: c.Now,
		loaded: make(chan struct{}), wake: make(chan struct{}, 1), closed: make(chan struct{}),
		gate: reload.Gate{Interval: keysMinInterval},
	}
	k.keys.Store(&map[string]*accesstoken.Key{})
	return k
}

// get returns the key called id, or nil.
func (k *keySource) get(id string) *accesstoken.Key { return (*k.keys.Load())[id] }

// find returns the key with this id. If it is not known, find fetches the keys, at most once per
// keysMinInterval for all callers together. Until the next fetch, the result of the last one counts: find
// returns ErrInvalid if the key was not in it, and ErrUnavailable if the fetch failed.
func (k *keySource) find(ctx context.Context, id string) (*accesstoken.Key, error) {
	if key := k.get(id); key != nil {
		return key, nil
	}
	current, isNew := k.gate.Join(k.now())
	if isNew {
		k.wakeRun()
	}
	select {
	case <-current.Done():
	case <-k.closed:
		return nil, fmt.Errorf("%w: the verifier is closed", ErrUnavailable)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	if key := k.get(id); key != nil {
		return key, nil
	}
	if err := current.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, accesstoken.Invalid("unknown key id")
}

// changed is called when the issuer's keys have changed. A caller that looks for a key after this waits for a
// fetch that begins after this, since an earlier one may have the old keys.
func (k *keySource) changed() {
	if k.gate.Renew(k.now()) {
		k.wakeRun()
	}
}

// wakeRun makes run fetch at once.
func (k *keySource) wakeRun() {
	select {
	case k.wake <- struct{}{}:
	default: // a fetch was requested already
	}
}

// run fetches until ctx ends. Nothing else fetches, so a slow answer never replaces a newer one.
func (k *keySource) run(ctx context.Context) {
	defer close(k.closed)
	failures := 0
	var once sync.Once
	for {
		current := k.gate.Begin(k.now())
		err := k.load(ctx)
		current.End(err)
		pause := keysInterval
		if err != nil {
			k.logFailure(ctx, failures, err)
			pause = backoff(failures)
			failures++
		} else {
			failures = 0
			once.Do(func() { close(k.loaded) })
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-k.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (k *keySource) logFailure(ctx context.Context, failures int, err error) {
	level := slog.LevelDebug
	if failures == 0 && ctx.Err() == nil { // warn once, though it may last for hours
		level = slog.LevelWarn
	}
	k.log.Log(ctx, level, "fetching the signing keys failed, known keys stay in use", "error", err)
}

// load replaces the keys with those that the issuer publishes now. On error, it keeps them.
func (k *keySource) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	document, err := k.fetch(ctx)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", k.url, err)
	}
	keys, err := accesstoken.ParseJWKS(document)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", k.url, err)
	}
	// Keep the pointer of a key that has not changed: cached tokens are compared by it.
	previous := *k.keys.Load()
	for id, key := range maps.Clone(keys) {
		if old := previous[id]; old != nil && old.Equal(key) {
			keys[id] = old
		}
	}
	k.keys.Store(&keys)
	return nil
}

func (k *keySource) fetch(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("the answer is " + resp.Status)
	}
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, err
	}
	if len(document) > maxJWKSBytes {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxJWKSBytes)
	}
	return document, nil
}
