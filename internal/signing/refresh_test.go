package signing

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// strangeToken is well formed and names a key that nobody has.
func strangeToken(t *testing.T) string {
	t.Helper()
	key := testKey(t, accesstoken.EdDSA)
	return forge(t, key, josetest.JSON(t, testHeader(key)), josetest.JSON(t, wireClaims()))
}

// A key that another replica made is found by the first token that names it.
func TestVerifyLearnsNewKeys(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	f.wantRefused(t, strangeToken(t), "unknown key id")
	made := testKey(t, accesstoken.EdDSA)
	storeKey(t, f.store, StateVerifyOnly, made, testSealKey(1))
	token := forge(t, made, josetest.JSON(t, testHeader(made)), josetest.JSON(t, wireClaims()))
	// Within a second of the last reading, its answer stands.
	f.clock.Add(reloadInterval - time.Nanosecond)
	f.wantRefused(t, token, "unknown key id")
	f.clock.Add(time.Nanosecond)
	f.wantAccepted(t, token)
}

// Tokens with known keys never touch the store; unknown ones read it once a second, however many there are. A
// clock set back does not stop that.
func TestVerifyReadsSeldom(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	token, strange := mustSign(t, f.Keyring, testClaims()), strangeToken(t)
	wantReads := func(want int) {
		t.Helper()
		if got := f.store.readCount(); got != want {
			t.Errorf("%d reads, want %d", got, want)
		}
	}
	before := f.store.readCount()
	for range 100 {
		f.wantAccepted(t, token)
	}
	wantReads(before)
	for second := range 3 {
		for range 100 {
			f.wantRefused(t, strange, "unknown key id")
			// Refused before the key is looked for.
			f.wantRefused(t, "x"+strange, "header")
		}
		wantReads(before + second + 1)
		f.clock.Add(reloadInterval)
	}
	f.clock.Add(-time.Hour)
	f.wantRefused(t, strange, "unknown key id")
	wantReads(before + 4)
}

// Callers that arrive while the store is being read share the reading.
func TestVerifySharesReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForger(t, accesstoken.EdDSA)
		strange := strangeToken(t)
		before := f.store.readCount()
		release := f.store.hold()
		const callers = 50
		failures := make([]error, callers)
		var group sync.WaitGroup
		for i := range callers {
			group.Go(func() { _, failures[i] = f.Verify(t.Context(), strange) })
		}
		synctest.Wait()
		// Slower than the interval: still one reading at a time.
		f.clock.Add(2 * reloadInterval)
		group.Go(func() { _, _ = f.Verify(t.Context(), strange) })
		// One who gives up leaves; the others are not disturbed.
		ctx, cancel := context.WithCancel(t.Context())
		var impatient error
		var left sync.WaitGroup
		left.Go(func() { _, impatient = f.Verify(ctx, strange) })
		synctest.Wait()
		cancel()
		left.Wait()
		if !errors.Is(impatient, ErrUnavailable) || !errors.Is(impatient, context.Canceled) {
			t.Errorf("the caller that gave up got %v", impatient)
		}
		if got := f.store.readCount() - before; got != 1 {
			t.Errorf("%d reads", got)
		}
		release()
		group.Wait()
		for _, err := range failures {
			josetest.WantError(t, err, accesstoken.ErrInvalid)
		}
		if got := f.store.readCount() - before; got != 1 {
			t.Errorf("%d reads", got)
		}
	})
}

// The caller that starts a reading may leave; the others still get its answer.
func TestVerifyReadingOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForger(t, accesstoken.EdDSA)
		made := testKey(t, accesstoken.EdDSA)
		storeKey(t, f.store, StateVerifyOnly, made, testSealKey(1))
		token := forge(t, made, josetest.JSON(t, testHeader(made)), josetest.JSON(t, wireClaims()))
		release := f.store.hold()
		ctx, cancel := context.WithCancel(t.Context())
		var first, second error
		var group, left sync.WaitGroup
		left.Go(func() { _, first = f.Verify(ctx, token) })
		synctest.Wait()
		group.Go(func() { _, second = f.Verify(t.Context(), token) })
		synctest.Wait()
		cancel()
		left.Wait()
		release()
		group.Wait()
		josetest.WantError(t, first, ErrUnavailable)
		if second != nil {
			t.Errorf("the second caller got %v", second)
		}
	})
}

// With the store down nobody can tell a forged key id from a new one, and that is what is said, without
// asking more often; once it is back the answer is clear.
func TestVerifyUnknownKeyWithStoreDown(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	strange := strangeToken(t)
	f.store.fail(errStore)
	before := f.store.readCount()
	for range 10 {
		claims, err := f.Verify(t.Context(), strange)
		josetest.WantError(t, err, ErrUnavailable)
		if errors.Is(err, accesstoken.ErrInvalid) || claims != nil {
			t.Errorf("got %v, %v", claims, err)
		}
	}
	if got := f.store.readCount() - before; got != 1 {
		t.Errorf("%d reads", got)
	}
	f.store.fail(nil)
	f.clock.Add(reloadInterval)
	f.wantRefused(t, strange, "unknown key id")
}

// A store that never answers is given up on.
func TestVerifyStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForger(t, accesstoken.EdDSA)
		strange := strangeToken(t)
		release := f.store.hold()
		start := time.Now()
		_, err := f.Verify(t.Context(), strange)
		josetest.WantError(t, err, ErrUnavailable)
		josetest.WantError(t, err, context.DeadlineExceeded)
		if got := time.Since(start); got != reloadTimeout {
			t.Errorf("gave up after %s", got)
		}
		release()
	})
}

// A reload waits its turn, so that a slow older reading cannot replace a newer one, and gives up when its
// caller does.
func TestReloadsDoNotOvertake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForger(t, accesstoken.EdDSA)
		before := f.store.readCount()
		release := f.store.hold()
		var group sync.WaitGroup
		var first, second error
		group.Go(func() { first = f.Reload(t.Context()) })
		synctest.Wait()
		group.Go(func() { second = f.Reload(t.Context()) })
		synctest.Wait()
		if got := f.store.readCount() - before; got != 1 {
			t.Errorf("%d readings at once", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		third := f.Reload(ctx)
		josetest.WantError(t, third, ErrUnavailable)
		josetest.WantError(t, third, context.Canceled)
		release()
		group.Wait()
		if err := errors.Join(first, second); err != nil {
			t.Error(err)
		}
		if got := f.store.readCount() - before; got != 2 {
			t.Errorf("%d readings", got)
		}
	})
}

// Signing, verifying and reloading at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	strange := strangeToken(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				token, err := f.Sign(t.Context(), testClaims())
				if err == nil {
					_, err = f.Verify(t.Context(), token)
				}
				if err != nil {
					t.Error(err)
				}
				_, err = f.Verify(t.Context(), strange)
				josetest.WantError(t, err, accesstoken.ErrInvalid)
				if err := f.Reload(t.Context()); err != nil {
					t.Error(err)
				}
				f.JWKS()
				f.clock.Add(time.Millisecond)
			}
		})
	}
	group.Wait()
}
