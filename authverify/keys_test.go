package authverify_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/authverify"
)

// unknown is a token whose key nobody has.
func (w *world) unknown(t testing.TB) string {
	t.Helper()
	return newTestKey(t, "nobody").sign(t, nil, w.claims(newPerson(t)))
}

// A key that is not known is asked for, at most once a second however many tokens name it; tokens with known
// keys never cause a fetch.
func TestKeysAskedForSeldom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, func(c *authverify.Config) { c.FailOpen = true })
	w.advance(time.Second) // the first fetch is a second ago
	before := w.fetchCount()
	for second := range 3 {
		for range 20 {
			wantVerdict(t, v, w.token(t, newPerson(t)), nil)
			wantVerdict(t, v, w.unknown(t), authverify.ErrInvalid)
		}
		if got := w.fetchCount() - before; got != second+1 {
			t.Fatalf("second %d: %d fetches", second, got)
		}
		w.advance(time.Second)
	}
	// A new key is found by the first token that names it, in the next second.
	w.addKey(t, "k2")
	wantVerdict(t, v, w.sign(t, "k2", nil, w.claims(newPerson(t))), nil)
	w.addKey(t, "k3")
	token := w.sign(t, "k3", nil, w.claims(newPerson(t)))
	w.advance(time.Second - 1)
	wantVerdict(t, v, token, authverify.ErrInvalid)
	w.advance(1)
	wantVerdict(t, v, token, nil)
	w.advance(-time.Hour) // a clock set back does not stop it
	wantVerdict(t, v, w.unknown(t), authverify.ErrInvalid)
	if got := w.fetchCount() - before; got != 6 {
		t.Errorf("%d fetches", got)
	}
}

// Callers share a fetch; one who gives up leaves the others alone.
func TestKeysSharedFetch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, func(c *authverify.Config) { c.FailOpen = true })
	w.advance(time.Second)
	before := w.fetchCount()
	release := w.hold()
	w.addKey(t, "k2")
	token := w.sign(t, "k2", nil, w.claims(newPerson(t)))
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { wantVerdict(t, v, token, nil) })
	}
	eventually(t, "fetches", func() bool { return w.fetchCount() == before+1 })
	w.advance(5 * time.Second) // longer than the interval: still one at a time
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := v.Verify(ctx, token)
	wantError(t, err, authverify.ErrUnavailable)
	wantError(t, err, context.Canceled)
	wantVerdict(t, v, w.token(t, newPerson(t)), nil) // known keys do not wait
	release()
	group.Wait()
	if got := w.fetchCount() - before; got != 1 {
		t.Errorf("%d fetches", got)
	}
}

// Without an answer that can be used the keys stay, and nobody can tell about others.
func TestKeysFetchFails(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"500":       func(w *world) { w.code = http.StatusInternalServerError },
		"redirect":  func(w *world) { w.code = http.StatusFound },
		"no keys":   func(w *world) { w.document = `{"keys":[]}` },
		"no JSON":   func(w *world) { w.document = "<html>" },
		"too long":  func(w *world) { w.document = `{"keys":[],"x":"` + strings.Repeat("x", 300_000) + `"}` },
		"key twice": func(w *world) { w.document = `{"keys":[],"keys":[]}` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, _ := w.ready(t, nil)
			w.edit(func() { change(w) })
			w.advance(time.Second)
			wantVerdict(t, v, w.unknown(t), authverify.ErrUnavailable)
			wantVerdict(t, v, w.token(t, newPerson(t)), nil)
			w.edit(func() { w.code, w.document = http.StatusOK, "" })
			w.advance(time.Second)
			eventually(t, "knows better", func() bool {
				claims, err := v.Verify(t.Context(), w.unknown(t))
				return claims == nil && err != nil && strings.Contains(err.Error(), "unknown key id")
			})
		})
	}
}

// A change of the keys that the stream tells of is fetched without any token, and a failure is made up for.
func TestKeysChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	before := w.fetchCount()
	w.edit(func() { w.code = http.StatusInternalServerError })
	s.send(t, v, complete(2, keysChangedRow(2)))
	eventually(t, "fetches", func() bool { return w.fetchCount() > before })
	w.edit(func() { w.code = http.StatusOK })
	w.addKey(t, "k2")
	token := w.sign(t, "k2", nil, w.claims(newPerson(t)))
	before = w.fetchCount()
	eventually(t, "fetches again", func() bool { return w.fetchCount() > before })
	eventually(t, "has the key", func() bool {
		_, err := v.Verify(t.Context(), token)
		return err == nil
	})
}
