package signing

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

const testPeriod = 90 * 24 * time.Hour

func newTestRotator(t testing.TB, store KeyStore, c *josetest.Clock, change func(*RotatorConfig)) *Rotator {
	t.Helper()
	config := RotatorConfig{
		Store: store, SealKeys: [][]byte{testSealKey(1)}, Algorithm: accesstoken.EdDSA, Period: testPeriod, MaxTTL: testMaxTTL, Now: c.Now,
	}
	if change != nil {
		change(&config)
	}
	r, err := NewRotator(config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustTend(t testing.TB, r *Rotator) []KeyChange {
	t.Helper()
	changes, err := r.Tend(t.Context())
	if err != nil {
		t.Fatalf("Tend: %v", err)
	}
	return changes
}

func mustReload(t testing.TB, keyrings ...*Keyring) {
	t.Helper()
	for _, k := range keyrings {
		if err := k.Reload(t.Context()); err != nil {
			t.Fatalf("Reload: %v", err)
		}
	}
}

// stateOf returns the state of each key by id.
func (s *memoryStore) stateOf() map[string]State {
	states := map[string]State{}
	for _, row := range s.all() {
		states[row.ID] = row.State
	}
	return states
}

func TestRotatorConfig(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*RotatorConfig){
		"Store":     func(c *RotatorConfig) { c.Store = nil },
		"Now":       func(c *RotatorConfig) { c.Now = nil },
		"MaxTTL":    func(c *RotatorConfig) { c.MaxTTL = time.Second - 1 },
		"Period":    func(c *RotatorConfig) { c.Period = -1 },
		"SealKeys":  func(c *RotatorConfig) { c.SealKeys = nil },
		"algorithm": func(c *RotatorConfig) { c.Algorithm = "none" },
	} {
		config := RotatorConfig{Store: &memoryStore{}, SealKeys: [][]byte{testSealKey(1)}, MaxTTL: time.Hour, Now: josetest.NewClock().Now}
		if _, err := NewRotator(config); err != nil {
			t.Error(err)
		}
		change(&config)
		if r, err := NewRotator(config); err == nil || r != nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// One rotation from end to end, by the schedule, to the second.
func TestScheduledRotation(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	k, r := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)), newTestRotator(t, store, c, nil)
	first := k.keys.Load().active.id
	if got := k.ActiveSince(); !got.Equal(c.Now()) {
		t.Errorf("active since %v", got)
	}
	wantNothing := func() {
		t.Helper()
		if changes := mustTend(t, r); changes != nil {
			t.Fatalf("changed %+v", changes)
		}
	}
	wantChanges := func(want ...KeyChange) {
		t.Helper()
		if changes := mustTend(t, r); !slices.Equal(changes, want) {
			t.Fatalf("changed %+v, want %+v", changes, want)
		}
		wantNothing()
		mustReload(t, k)
	}
	c.Add(testPeriod - time.Second)
	wantNothing()
	c.Add(time.Second)
	changes := mustTend(t, r)
	if len(changes) != 1 || changes[0].From != "" || changes[0].To != StatePending {
		t.Fatalf("changed %+v", changes)
	}
	second := changes[0].ID
	mustReload(t, k)
	if !k.Has(second) || !strings.Contains(string(k.JWKS()), second) || k.keys.Load().active.id != first {
		t.Error("the pending key is not published, or signs")
	}
	c.Add(PublishAhead - time.Second)
	wantNothing()
	c.Add(time.Second)
	wantChanges(KeyChange{first, accesstoken.EdDSA, StateActive, StateVerifyOnly}, KeyChange{second, accesstoken.EdDSA, StatePending, StateActive})
	if k.keys.Load().active.id != second || !k.Has(first) || !k.ActiveSince().Equal(c.Now()) {
		t.Error("the new key does not sign, or the old one does not verify")
	}
	c.Add(testMaxTTL + retireMargin - time.Second)
	wantNothing()
	c.Add(time.Second)
	wantChanges(KeyChange{first, accesstoken.EdDSA, StateVerifyOnly, StateGone})
	if k.Has(first) || strings.Contains(string(k.JWKS()), first) {
		t.Error("the key that is gone verifies or is published")
	}
	// Gone by age is no revocation.
	if len(store.revoked) != 0 {
		t.Errorf("revoked %v", store.revoked)
	}
}

func TestNoPeriod(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	r := newTestRotator(t, store, c, func(config *RotatorConfig) { config.Period = 0 })
	c.Add(100 * testPeriod)
	if changes := mustTend(t, r); changes != nil {
		t.Errorf("changed %+v", changes)
	}
	// What was asked for goes on all the same.
	outcome, err := r.Rotate(t.Context())
	if err != nil || !outcome.DueTime.Equal(c.Now().Add(PublishAhead)) {
		t.Fatalf("%+v, %v", outcome, err)
	}
	c.Add(PublishAhead)
	mustTend(t, r)
	if got := store.stateOf()[outcome.KeyID]; got != StateActive {
		t.Errorf("it is %s", got)
	}
}

// Whatever is asked twice happens once.
func TestRotationsOnce(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	k, r := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)), newTestRotator(t, store, c, nil)
	first := k.keys.Load().active.id
	made, err := r.Rotate(t.Context())
	if err != nil || len(made.Changes) != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	c.Add(time.Minute)
	again, err := r.Rotate(t.Context())
	if err != nil || again.KeyID != made.KeyID || len(again.Changes) != 0 || !again.DueTime.Equal(made.DueTime) || again.Position != made.Position {
		t.Errorf("%+v, %v, want as %+v", again, err, made)
	}
	for i := range 2 {
		outcome, err := r.Promote(t.Context(), made.KeyID)
		if err != nil || (len(outcome.Changes) == 2) != (i == 0) {
			t.Errorf("%+v, %v", outcome, err)
		}
	}
	_, err = r.Promote(t.Context(), first)
	josetest.WantError(t, err, ErrKeyGone)
	_, err = r.Promote(t.Context(), "nothing")
	josetest.WantError(t, err, ErrUnknownKey)
	for i := range 2 {
		outcome, err := r.Revoke(t.Context(), first)
		if err != nil || (len(outcome.Changes) == 1) != (i == 0) || outcome.Position != store.position {
			t.Errorf("%+v, %v", outcome, err)
		}
	}
	_, err = r.Revoke(t.Context(), "nothing")
	josetest.WantError(t, err, ErrUnknownKey)
	if !slices.Equal(store.revoked, []string{first}) {
		t.Errorf("revoked %v", store.revoked)
	}
}

// Revoking the active key leaves one that signs: the pending one, or a new one.
func TestRevokeActive(t *testing.T) {
	t.Parallel()
	for _, pending := range []bool{false, true} {
		store, c := &memoryStore{}, josetest.NewClock()
		k, r := mustOpen(t, testConfig(store, c, accesstoken.ES256)), newTestRotator(t, store, c, nil) // set to EdDSA
		token, first := mustSign(t, k, testClaims()), k.keys.Load().active.id
		next := ""
		if pending {
			outcome, err := r.Rotate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			next = outcome.KeyID
		}
		if _, err := r.Revoke(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		mustReload(t, k)
		active := k.keys.Load().active
		if active == nil || active.id == first || active.algorithm != accesstoken.ES256 || (pending && active.id != next) {
			t.Errorf("pending %v: %+v signs", pending, active)
		}
		_, err := k.Verify(t.Context(), token)
		josetest.WantError(t, err, accesstoken.ErrInvalid)
		if k.Has(first) {
			t.Error("the revoked key is still there")
		}
		verified, err := k.VerifyAny(t.Context(), mustSign(t, k, testClaims()))
		kid := verified.KeyID
		if err != nil || kid != active.id {
			t.Errorf("%s, %v", kid, err)
		}
	}
}

// withAlgorithm is a replica set to it; "": to none.
func withAlgorithm(algorithm accesstoken.Algorithm) func(*RotatorConfig) {
	return func(c *RotatorConfig) { c.Algorithm = algorithm }
}

// A setting that is taken back before it took effect leaves nothing behind.
func TestAlgorithmTakenBack(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	first := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)).keys.Load().active
	mustOpen(t, testConfig(store, c, accesstoken.ES256))
	for range 2 {
		if k := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)); k.keys.Load().active.id != first.id {
			t.Error("another key signs")
		}
		if got := store.states(); got[StateGone] != 1 || got[StatePending] != 0 || len(store.all()) != 2 {
			t.Errorf("states %v", got)
		}
	}
	c.Add(PublishAhead)
	if changes := mustTend(t, newTestRotator(t, store, c, nil)); changes != nil {
		t.Errorf("changed %+v", changes)
	}
	// A key that was about to follow makes room for one of the algorithm that is set now.
	r := newTestRotator(t, store, c, nil)
	stale, err := r.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, testConfig(store, c, accesstoken.RS256))
	if states := store.stateOf(); states[stale.KeyID] != StateGone || store.states()[StatePending] != 1 {
		t.Errorf("states %v", states)
	}
	// A rotation by hand makes the change that is due, and no other one.
	made, err := r.Rotate(t.Context())
	if err != nil || len(made.Changes) != 0 || made.KeyID == stale.KeyID {
		t.Errorf("%+v, %v", made, err)
	}
}

// Replicas that run with different settings do not take turns: each asks once, the last to start wins.
func TestAlgorithmsSideBySide(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	replicas := []*Rotator{newTestRotator(t, store, c, nil)}
	mustTend(t, replicas[0])
	mustOpen(t, testConfig(store, c, accesstoken.ES256))
	replicas = append(replicas, newTestRotator(t, store, c, withAlgorithm(accesstoken.ES256)), newTestRotator(t, store, c, withAlgorithm("")))
	// A version that knows no change of this kind gives the pending key up: the replica that asks makes another.
	store.edit(func(rows []StoredKey) []StoredKey {
		for i := range rows {
			if rows[i].State == StatePending {
				rows[i].State, rows[i].Sealed = StateGone, nil
			}
		}
		return rows
	})
	for range 100 {
		for _, r := range replicas {
			mustTend(t, r)
		}
		c.Add(PublishAhead)
	}
	var active accesstoken.Algorithm
	for _, row := range store.all() {
		if row.State == StateActive {
			active = row.Algorithm
		}
	}
	// Made: the first key, the one that was given up, the one that signs.
	if n := len(store.all()); n != 3 || active != accesstoken.ES256 || store.states()[StatePending] != 0 {
		t.Errorf("%d keys, %v, %s signs", n, store.states(), active)
	}
}

// Rows of versions without times count from when they are seen.
func TestTendOldRows(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	old, active := testKey(t, accesstoken.EdDSA), testKey(t, accesstoken.EdDSA)
	storeKey(t, store, StateVerifyOnly, old, testSealKey(1))
	storeKey(t, store, StateActive, active, testSealKey(1))
	k, r := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)), newTestRotator(t, store, c, nil)
	if want := josetest.Start().Add(time.Second); !k.ActiveSince().Equal(want) {
		t.Errorf("active since %v, want its creation %v", k.ActiveSince(), want)
	}
	c.Add(time.Hour * 24 * 30)
	mustTend(t, r)
	c.Add(testMaxTTL + retireMargin - time.Second)
	mustTend(t, r)
	if got := store.stateOf()[old.id]; got != StateVerifyOnly {
		t.Errorf("it is %s", got)
	}
	c.Add(time.Second)
	mustTend(t, r)
	if got := store.stateOf()[old.id]; got != StateGone {
		t.Errorf("it is %s", got)
	}
}

// With no key that signs, tending makes one: service goes on without a restart.
func TestTendWithoutActive(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	k, r := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)), newTestRotator(t, store, c, nil)
	store.edit(func([]StoredKey) []StoredKey { return nil })
	mustTend(t, r)
	mustReload(t, k)
	mustSign(t, k, testClaims())
}

// A key that the replicas cannot open must not become the one that signs, and none is made with a secret that
// is not theirs.
func TestRotateUnderAnotherSecret(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	k := mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	stranger := newTestRotator(t, store, c, func(config *RotatorConfig) { config.SealKeys = [][]byte{testSealKey(2)} })
	_, err := stranger.Rotate(t.Context())
	josetest.WantError(t, err, ErrSealed)
	_, err = stranger.Revoke(t.Context(), k.keys.Load().active.id)
	josetest.WantError(t, err, ErrSealed)
	if len(store.all()) != 1 || store.position != 1 {
		t.Errorf("the store was changed: %v", store.stateOf())
	}
	// One who knows both seals under the new secret, before the replicas know that.
	early := newTestRotator(t, store, c, func(config *RotatorConfig) { config.SealKeys = [][]byte{testSealKey(2), testSealKey(1)} })
	made, err := early.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := newTestRotator(t, store, c, nil)
	c.Add(PublishAhead)
	_, err = r.Tend(t.Context())
	josetest.WantError(t, err, ErrSealed)
	_, err = r.Revoke(t.Context(), k.keys.Load().active.id)
	josetest.WantError(t, err, ErrSealed)
	if store.states()[StateActive] != 1 || store.stateOf()[made.KeyID] != StatePending {
		t.Errorf("states %v", store.states())
	}
	// It can be given up.
	if _, err := r.Revoke(t.Context(), made.KeyID); err != nil {
		t.Error(err)
	}
	if changes := mustTend(t, r); changes != nil {
		t.Errorf("changed %+v", changes)
	}
}

func TestRotatorStoreFailures(t *testing.T) {
	t.Parallel()
	store, c := &failingStore{}, josetest.NewClock()
	k := mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	r := newTestRotator(t, store, c, nil)
	store.change = true
	c.Add(testPeriod)
	for name, call := range map[string]func() error{
		"Tend":    func() error { _, err := r.Tend(t.Context()); return err },
		"Rotate":  func() error { _, err := r.Rotate(t.Context()); return err },
		"Promote": func() error { _, err := r.Promote(t.Context(), "x"); return err },
		"Revoke":  func() error { _, err := r.Revoke(t.Context(), k.keys.Load().active.id); return err },
	} {
		if err := call(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errStore) {
			t.Errorf("%s: %v", name, err)
		}
	}
	store.fail(errStore)
	_, err := r.Tend(t.Context())
	josetest.WantError(t, err, ErrUnavailable)
}

// Replicas whose schedules fire together make one rotation.
func TestTendTogether(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	together := func(want map[State]int) {
		t.Helper()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if _, err := newTestRotator(t, store, c, nil).Tend(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		got := store.states()
		for state, n := range want {
			if got[state] != n {
				t.Errorf("states %v, want %v", got, want)
			}
		}
	}
	c.Add(testPeriod)
	together(map[State]int{StatePending: 1, StateActive: 1})
	c.Add(PublishAhead)
	together(map[State]int{StatePending: 0, StateActive: 1, StateVerifyOnly: 1})
}
