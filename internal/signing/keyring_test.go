package signing

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

var errStore = errors.New("the store is down")

func TestOpenConfig(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"Issuer":    func(c *Config) { c.Issuer = "" },
		"Audience":  func(c *Config) { c.Audience = "" },
		"ClientID":  func(c *Config) { c.ClientID = "" },
		"Store":     func(c *Config) { c.Store = nil },
		"Now":       func(c *Config) { c.Now = nil },
		"SealKeys":  func(c *Config) { c.SealKeys = nil },
		"MaxTTL":    func(c *Config) { c.MaxTTL = time.Second - 1 },
		"algorithm": func(c *Config) { c.Algorithm = "HS256" },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			store := &memoryStore{}
			config := testConfig(store, josetest.NewClock(), accesstoken.EdDSA)
			change(&config)
			k, err := Open(t.Context(), config)
			if err == nil || k != nil || !strings.Contains(err.Error(), field) {
				t.Errorf("got %v", err)
			}
			if len(store.all()) != 0 || store.readCount() != 0 {
				t.Error("the store was touched")
			}
		})
	}
}

// The first start makes a key, of ES256 unless told; a restart uses it.
func TestOpenMakesOneKey(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []accesstoken.Algorithm{"", accesstoken.EdDSA, accesstoken.ES256, accesstoken.RS256} {
		t.Run("algorithm "+string(algorithm), func(t *testing.T) {
			t.Parallel()
			store, c := &memoryStore{}, josetest.NewClock()
			config := testConfig(store, c, algorithm)
			k, err := Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			rows := store.all()
			want := algorithm
			if want == "" {
				want = accesstoken.ES256
			}
			if len(rows) != 1 || rows[0].Algorithm != want || rows[0].State != StateActive || !rows[0].CreateTime.Equal(c.Now()) {
				t.Fatalf("stored %+v", rows)
			}
			if key := k.keys.Load().active; rows[0].ID != key.jwk.Thumbprint() {
				t.Errorf("kid %q is not the thumbprint", rows[0].ID)
			}
			token := mustSign(t, k, testClaims())
			again := mustOpen(t, config)
			if _, err := again.Verify(t.Context(), token); err != nil {
				t.Errorf("after a restart: %v", err)
			}
			if mustSign(t, again, testClaims()) != token {
				t.Error("signing again after a restart gave another token")
			}
			if len(store.all()) != 1 {
				t.Error("a restart made another key")
			}
		})
	}
}

// Nothing in the store is a usable secret.
func TestStoreHoldsNoSecret(t *testing.T) {
	t.Parallel()
	store := &memoryStore{}
	k := mustOpen(t, testConfig(store, josetest.NewClock(), accesstoken.EdDSA))
	seed := decodePKCS8(t, k.keys.Load().active)
	for _, row := range store.all() {
		for _, stored := range [][]byte{row.Sealed, row.Public, []byte(row.ID), k.JWKS()} {
			for start := 0; start+8 <= len(seed); start++ {
				if strings.Contains(string(stored), string(seed[start:start+8])) {
					t.Fatal("part of the private key is stored in clear")
				}
			}
		}
	}
}

// decodePKCS8 returns the 32 secret bytes of an Ed25519 key.
func decodePKCS8(t *testing.T, key *signingKey) []byte {
	t.Helper()
	s := mustSealer(t, testSealKey(9))
	sealed, err := key.seal(s)
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := s.open(key.id, key.algorithm, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return plain[len(plain)-32:]
}

// Replicas that start together on an empty store end with one active key and accept each other's tokens, also
// when none has read the other's key before.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []accesstoken.Algorithm{accesstoken.EdDSA, accesstoken.ES256} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { openTogether(t, algorithm) })
		})
	}
}

func openTogether(t *testing.T, algorithm accesstoken.Algorithm) {
	t.Helper()
	const replicas = 8
	store, c := &memoryStore{}, josetest.NewClock()
	keyrings, failures := make([]*Keyring, replicas), make([]error, replicas)
	release := store.hold() // All look at the empty store before any goes on.
	var group sync.WaitGroup
	for i := range replicas {
		group.Go(func() { keyrings[i], failures[i] = Open(t.Context(), testConfig(store, c, algorithm)) })
	}
	synctest.Wait()
	release()
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	if rows := store.all(); len(rows) != 1 || rows[0].State != StateActive {
		t.Fatalf("stored %d keys: %v", len(rows), store.states())
	}
	for _, signer := range keyrings {
		token := mustSign(t, signer, testClaims())
		for _, verifier := range keyrings {
			if _, err := verifier.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		}
	}
}

// A changed algorithm goes the way of every new key: published first, and signing when verifiers know it.
// Tokens of the old one live on.
func TestOpenChangedAlgorithm(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	before, oldRotator := mustOpen(t, testConfig(store, c, accesstoken.EdDSA)), newTestRotator(t, store, c, nil)
	mustTend(t, oldRotator)
	old := mustSign(t, before, testClaims())
	after, rotator := mustOpen(t, testConfig(store, c, accesstoken.ES256)), newTestRotator(t, store, c, withAlgorithm(accesstoken.ES256))
	if got := store.states(); got[StateActive] != 1 || got[StatePending] != 1 || got[StateVerifyOnly] != 0 {
		t.Fatalf("states %v", got)
	}
	// Nobody signs with it, and each start finds it.
	if mustSign(t, after, testClaims()) != old || mustSign(t, mustOpen(t, testConfig(store, c, accesstoken.ES256)), testClaims()) != old || len(store.all()) != 2 {
		t.Error("the new key signs before it was published for long enough, or there are several")
	}
	c.Add(PublishAhead - time.Second)
	if changes := slices.Concat(mustTend(t, rotator), mustTend(t, oldRotator)); changes != nil {
		t.Fatalf("changed %+v before it was due", changes)
	}
	c.Add(time.Second)
	// A replica that still has the old setting promotes it as well.
	if changes := mustTend(t, oldRotator); len(changes) != 2 {
		t.Fatalf("changed %+v", changes)
	}
	mustReload(t, before, after)
	token := mustSign(t, after, testClaims())
	if active := after.keys.Load().active; active.algorithm != accesstoken.ES256 || mustSign(t, before, testClaims()) != token {
		t.Errorf("%s signs, or not on every replica", active.algorithm)
	}
	for _, k := range []*Keyring{before, after} {
		for _, token := range []string{old, token} {
			if _, err := k.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		}
	}
	if changes := slices.Concat(mustTend(t, oldRotator), mustTend(t, rotator)); changes != nil {
		t.Errorf("the replica with the old setting asks for it again: %+v", changes)
	}
}

// Without a setting keys stay of the kind that they are, whatever the default is.
func TestAlgorithmOfExistingKeys(t *testing.T) {
	t.Parallel()
	for _, algorithm := range algorithms() {
		store, c := &memoryStore{}, josetest.NewClock()
		first := mustOpen(t, testConfig(store, c, algorithm)).keys.Load().active
		r := newTestRotator(t, store, c, withAlgorithm(""))
		k := mustOpen(t, testConfig(store, c, ""))
		if rows := store.all(); len(rows) != 1 || k.keys.Load().active.id != first.id || mustTend(t, r) != nil {
			t.Errorf("%s: %v", algorithm, rows)
		}
		// A scheduled rotation, a revocation, and the loss of the active key.
		c.Add(testPeriod)
		mustTend(t, r)
		c.Add(PublishAhead)
		mustTend(t, r)
		mustReload(t, k)
		second := k.keys.Load().active
		if second.id == first.id || second.algorithm != algorithm {
			t.Errorf("%s was followed by %s", algorithm, second.algorithm)
		}
		if _, err := r.Revoke(t.Context(), second.id); err != nil {
			t.Fatal(err)
		}
		mustReload(t, k)
		if third := k.keys.Load().active; third.algorithm != algorithm {
			t.Errorf("%s was followed by %s", algorithm, third.algorithm)
		}
		store.edit(func(rows []StoredKey) []StoredKey {
			return slices.DeleteFunc(rows, func(row StoredKey) bool { return row.State == StateActive })
		})
		mustTend(t, r)
		if last := mustOpen(t, testConfig(store, c, "")).keys.Load().active; last.algorithm != algorithm {
			t.Errorf("%s was followed by %s", algorithm, last.algorithm)
		}
	}
}

// The active key signs, however new the others are; of two, which no store should hold, the newest.
func TestActiveKeySigns(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	wantSigner := func(want *signingKey) {
		t.Helper()
		if err := f.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		parsed, err := accesstoken.ParseToken(mustSign(t, f.Keyring, testClaims()))
		if err != nil || parsed.KeyID() != want.id {
			t.Errorf("signed by %+v, %v, want %s", parsed, err, want.id)
		}
	}
	storeKey(t, f.store, StateVerifyOnly, testKey(t, accesstoken.EdDSA), testSealKey(1))
	wantSigner(f.key)
	second := testKey(t, accesstoken.ES256)
	storeKey(t, f.store, StateActive, second, testSealKey(1))
	wantSigner(second)
	f.store.edit(func(rows []StoredKey) []StoredKey { slices.Reverse(rows); return rows })
	wantSigner(second)
}

// Only the states that this version knows are used.
func TestUnknownStatesAndAlgorithms(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	for _, state := range []State{StateGone, "", "ACTIVE", "revoked"} {
		key := testKey(t, accesstoken.EdDSA)
		storeKey(t, f.store, state, key, testSealKey(1))
		// One that cannot be opened does not matter either.
		storeKey(t, f.store, state, testKey(t, accesstoken.EdDSA), testSealKey(7))
		if err := f.Reload(t.Context()); err != nil {
			t.Errorf("%q: %v", state, err)
		}
		f.wantRefused(t, forge(t, key, josetest.JSON(t, testHeader(key)), josetest.JSON(t, wireClaims())), "unknown key id")
		if strings.Contains(string(f.JWKS()), key.id) {
			t.Errorf("%q: published", state)
		}
	}
	f.store.edit(func(rows []StoredKey) []StoredKey {
		rows[0].Algorithm = "ML-DSA-44"
		return rows
	})
	if err := f.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if token, err := f.Sign(t.Context(), testClaims()); !errors.Is(err, ErrUnavailable) || token != "" {
		t.Errorf("signed without an active key: %v", err)
	}
}

// A key that is gone from the store is gone after a reload.
func TestReloadForgets(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	token := mustSign(t, f.Keyring, testClaims())
	f.store.edit(func(rows []StoredKey) []StoredKey { rows[0].State = StateGone; return rows })
	f.wantAccepted(t, token)
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRefused(t, token, "unknown key id")
	_, err := f.Sign(t.Context(), testClaims())
	josetest.WantError(t, err, ErrUnavailable)
}

// Under a new secret, with the old one as previous, everything is sealed anew and the old secret can be
// dropped.
func TestOpenReseals(t *testing.T) {
	t.Parallel()
	store, c := &memoryStore{}, josetest.NewClock()
	running := mustOpen(t, testConfig(store, c, accesstoken.EdDSA))
	old := mustSign(t, running, testClaims())
	rotated, err := newTestRotator(t, store, c, nil).Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newTestRotator(t, store, c, nil).Promote(t.Context(), rotated.KeyID); err != nil {
		t.Fatal(err)
	}
	config := testConfig(store, c, accesstoken.EdDSA)
	config.SealKeys = [][]byte{testSealKey(2), testSealKey(1)}
	both := mustOpen(t, config)
	resealed := store.all()
	config.SealKeys = [][]byte{testSealKey(2)}
	after := mustOpen(t, config)
	token := mustSign(t, after, testClaims())
	for name, k := range map[string]*Keyring{"both": both, "after": after} {
		for _, token := range []string{old, token} {
			if _, err := k.Verify(t.Context(), token); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// What is sealed under the current secret is left alone.
	config.SealKeys = [][]byte{testSealKey(2), testSealKey(1)}
	mustOpen(t, config)
	for i, row := range store.all() {
		if !slices.Equal(row.Sealed, resealed[i].Sealed) {
			t.Error("a key was sealed again without need")
		}
	}
	// A replica that knows only the old secret keeps the keys that it has. The second one it can neither use nor
	// deny.
	if err := running.Reload(t.Context()); !errors.Is(err, ErrSealed) {
		t.Errorf("got %v", err)
	}
	if _, err := running.Verify(t.Context(), old); err != nil {
		t.Error(err)
	}
	_, err = running.Verify(t.Context(), token)
	josetest.WantError(t, err, ErrUnavailable)
	_, err = running.Sign(t.Context(), testClaims())
	josetest.WantError(t, err, ErrUnavailable)
}

// A row that is not what it was when it was sealed stops the start and says which key it is; the message for
// a lost secret says the way out.
func TestOpenRefusesRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(t *testing.T, rows []StoredKey) []StoredKey
		says string
	}{
		"another secret": {func(t *testing.T, _ []StoredKey) []StoredKey {
			t.Helper()
			other := &memoryStore{}
			storeKey(t, other, StateActive, testKey(t, accesstoken.EdDSA), testSealKey(5))
			return other.rows
		}, "LATCHKEY_SECRET_KEY_PREVIOUS"},
		"verify-only key under another secret": {func(t *testing.T, rows []StoredKey) []StoredKey {
			t.Helper()
			other := &memoryStore{}
			storeKey(t, other, StateVerifyOnly, testKey(t, accesstoken.EdDSA), testSealKey(5))
			return append(rows[1:], other.rows...)
		}, "LATCHKEY_SECRET_KEY_PREVIOUS"},
		"sealed bytes of another row": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].Sealed = rows[1].Sealed
			return rows[:1]
		}, "belong to another key"},
		"another id": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].ID = "renamed"
			return rows[:1]
		}, "belong to another key"},
		"another algorithm": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].Algorithm = accesstoken.RS256
			return rows[:1]
		}, "belong to another key"},
		"another public key": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].Public = rows[1].Public
			return rows[:1]
		}, "public key"},
		"no public key": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].Public = nil
			return rows[:1]
		}, "public key"},
		"key of another type": {func(t *testing.T, rows []StoredKey) []StoredKey {
			t.Helper()
			key := testKey(t, accesstoken.ES256)
			key.id, key.algorithm = rows[0].ID, accesstoken.EdDSA
			sealed, err := key.seal(mustSealer(t, testSealKey(1)))
			if err != nil {
				t.Fatal(err)
			}
			rows[0].Sealed, rows[0].Public = sealed, key.spki
			return rows[:1]
		}, "Ed25519"},
		"no key at all": {func(t *testing.T, rows []StoredKey) []StoredKey {
			t.Helper()
			rows[0].Sealed = mustSealer(t, testSealKey(1)).seal(rows[0].ID, accesstoken.EdDSA, []byte("hello"))
			return rows[:1]
		}, "PKCS #8"},
		"nothing sealed": {func(_ *testing.T, rows []StoredKey) []StoredKey {
			rows[0].Sealed = nil
			return rows[:1]
		}, "cut short"},
		// Somebody with access to the table, but not to the secret, adds a key.
		"a planted key": {func(t *testing.T, rows []StoredKey) []StoredKey {
			t.Helper()
			key := testKey(t, accesstoken.EdDSA)
			return []StoredKey{rows[0], {
				ID: key.id, Algorithm: accesstoken.EdDSA, State: StateVerifyOnly, Sealed: rows[0].Sealed, Public: key.spki,
				CreateTime: josetest.Start(),
			}}
		}, "belong to another key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &memoryStore{}
			storeKey(t, store, StateActive, testKey(t, accesstoken.EdDSA), testSealKey(1))
			storeKey(t, store, StateVerifyOnly, testKey(t, accesstoken.EdDSA), testSealKey(1))
			store.edit(func(rows []StoredKey) []StoredKey { return c.edit(t, rows) })
			before := store.all()
			k, err := Open(t.Context(), testConfig(store, josetest.NewClock(), accesstoken.EdDSA))
			if !errors.Is(err, ErrSealed) || k != nil {
				t.Fatalf("got %v", err)
			}
			culprit := before[len(before)-1].ID
			if !strings.Contains(err.Error(), culprit) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not name %s and say %q", err, culprit, c.says)
			}
			if len(store.all()) != len(before) {
				t.Error("the store was changed")
			}
		})
	}
}

// A planted row on a running replica is not trusted, and costs nobody else.
func TestReloadRefusesPlantedKey(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.EdDSA)
	planted := testKey(t, accesstoken.EdDSA)
	storeKey(t, f.store, StateVerifyOnly, planted, testSealKey(66))
	token := forge(t, planted, josetest.JSON(t, testHeader(planted)), josetest.JSON(t, wireClaims()))
	_, err := f.Verify(t.Context(), token)
	josetest.WantError(t, err, ErrUnavailable)
	josetest.WantError(t, f.Reload(t.Context()), ErrSealed)
	if strings.Contains(string(f.JWKS()), planted.id) {
		t.Error("the planted key is published")
	}
	f.wantAccepted(t, mustSign(t, f.Keyring, testClaims()))
	// Nor does a row take over a known id with another public key.
	f.store.edit(func(rows []StoredKey) []StoredKey {
		rows[0].Public = planted.spki
		return rows[:1]
	})
	josetest.WantError(t, f.Reload(t.Context()), ErrSealed)
	own := testHeader(planted)
	own["kid"] = f.key.id
	f.clock.Add(reloadInterval)
	if _, err := f.Verify(t.Context(), forge(t, planted, josetest.JSON(t, own), josetest.JSON(t, wireClaims()))); err == nil {
		t.Error("a token of the planted key was accepted")
	}
}

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	store := &memoryStore{failure: errStore}
	_, err := Open(t.Context(), testConfig(store, josetest.NewClock(), accesstoken.EdDSA))
	josetest.WantError(t, err, ErrUnavailable)
	josetest.WantError(t, err, errStore)

	f := newForger(t, accesstoken.EdDSA)
	token := mustSign(t, f.Keyring, testClaims())
	f.store.fail(errStore)
	err = f.Reload(t.Context())
	josetest.WantError(t, err, ErrUnavailable)
	josetest.WantError(t, err, errStore)
	// Known keys go on working without the store.
	f.wantAccepted(t, token)
	if mustSign(t, f.Keyring, testClaims()) != token {
		t.Error("another token")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Sign(ctx, testClaims())
	josetest.WantError(t, err, context.Canceled)
}

// failingStore lets reads through and fails one kind of write.
type failingStore struct {
	memoryStore
	change, reseal bool
}

func (s *failingStore) ChangeSigningKeys(ctx context.Context, change func([]StoredKey) (KeyUpdate, error)) (int64, error) {
	if s.change {
		return 0, errStore
	}
	return s.memoryStore.ChangeSigningKeys(ctx, change)
}

func (s *failingStore) ResealSigningKey(ctx context.Context, id string, old, sealed []byte) error {
	if s.reseal {
		return errStore
	}
	return s.memoryStore.ResealSigningKey(ctx, id, old, sealed)
}

func TestOpenWriteFailures(t *testing.T) {
	t.Parallel()
	store := &failingStore{change: true}
	_, err := Open(t.Context(), testConfig(store, josetest.NewClock(), accesstoken.EdDSA))
	josetest.WantError(t, err, ErrUnavailable)
	josetest.WantError(t, err, errStore)

	store = &failingStore{reseal: true}
	storeKey(t, &store.memoryStore, StateActive, testKey(t, accesstoken.EdDSA), testSealKey(1))
	config := testConfig(store, josetest.NewClock(), accesstoken.EdDSA)
	config.SealKeys = [][]byte{testSealKey(2), testSealKey(1)}
	_, err = Open(t.Context(), config)
	josetest.WantError(t, err, ErrUnavailable)
	josetest.WantError(t, err, errStore)
}
