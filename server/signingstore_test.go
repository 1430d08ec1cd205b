package server_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/signingstore"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const rotationPeriod = 90 * 24 * time.Hour

// atOnce runs calls that all need the lock of the keys. None of them gets it before all wait for it.
func atOnce(t *testing.T, s *testenv.Server, calls ...func() error) {
	t.Helper()
	var wg sync.WaitGroup
	err := postgres.InTx(t.Context(), s.Pool, func(tx pgx.Tx) error {
		if err := db.New().LockSigningKeys(t.Context(), tx); err != nil {
			return err
		}
		for _, call := range calls {
			wg.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		}
		testenv.Eventually(t, patience, "all of them wait", func() bool { return lockWaits(t, s) == len(calls) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// keysIn counts the keys in a state.
func keysIn(t *testing.T, s *testenv.Server, state signing.State) int {
	t.Helper()
	return count(t, s, "SELECT count(*) FROM signing_keys WHERE state = $1", state)
}

// Replicas that find no key of their algorithm agree on one.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	execSQL(t, s, "DELETE FROM signing_keys")
	for i, algorithm := range []accesstoken.Algorithm{accesstoken.EdDSA, accesstoken.ES256} {
		keyrings := make([]*signing.Keyring, 4)
		var calls []func() error
		for i := range keyrings {
			calls = append(calls, func() (err error) {
				keyrings[i], err = signing.Open(t.Context(), signing.Config{
					Issuer: testenv.Issuer, Audience: testenv.Audience, ClientID: "latchkey", Algorithm: algorithm,
					Store: signingstore.Store{Pool: s.Pool}, SealKeys: [][]byte{bytes.Repeat([]byte{1}, 32)}, MaxTTL: time.Hour, Now: s.Clock.Now,
				})
				return err
			})
		}
		atOnce(t, s, calls...)
		// The first key signs at once. A key of another algorithm signs when all know it.
		state := []signing.State{signing.StateActive, signing.StatePending}[i]
		if n := count(t, s, "SELECT count(*) FROM signing_keys WHERE algorithm = $1 AND state = $2", algorithm, state); n != 1 {
			t.Errorf("%d keys of %s are %s", n, algorithm, state)
		}
		if n := keysIn(t, s, signing.StateActive); n != 1 {
			t.Errorf("%d keys sign", n)
		}
		for _, k := range keyrings[1:] {
			if !bytes.Equal(k.JWKS(), keyrings[0].JWKS()) {
				t.Error("they do not know the same keys")
			}
		}
	}
}

// If the schedules of two replicas fire together, they make one rotation, and promote one key.
func TestTendAtOnce(t *testing.T) {
	t.Parallel()
	first := testenv.Start(t, testenv.Options{KeyRotation: rotationPeriod})
	second := testenv.Start(t, testenv.Options{
		KeyRotation: rotationPeriod, DatabaseURL: first.DatabaseURL, RedisURL: first.RedisURL, Clock: first.Clock,
	})
	var mu sync.Mutex
	var changes []signing.KeyChange
	tend := func(s *testenv.Server) func() error {
		return func() error {
			made, err := s.Rotator.Tend(t.Context())
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, made...)
			return err
		}
	}
	for _, step := range []struct {
		after   time.Duration
		changes int
		want    map[signing.State]int
	}{
		{rotationPeriod, 1, map[signing.State]int{signing.StatePending: 1, signing.StateActive: 1}},
		{signing.PublishAhead, 2, map[signing.State]int{signing.StateActive: 1, signing.StateVerifyOnly: 1}},
		{testenv.MaxAccessTTL + time.Hour, 1, map[signing.State]int{signing.StateActive: 1, signing.StateGone: 1}},
	} {
		changes = nil
		rows := count(t, first, "SELECT count(*) FROM revocations WHERE kind = 'keys_changed'")
		first.Clock.Advance(step.after)
		atOnce(t, first, tend(first), tend(second), tend(first), tend(second))
		for _, state := range []signing.State{signing.StatePending, signing.StateActive, signing.StateVerifyOnly, signing.StateGone} {
			if n := keysIn(t, first, state); n != step.want[state] {
				t.Errorf("after %s: %d keys are %s", step.after, n, state)
			}
		}
		if len(changes) != step.changes {
			t.Errorf("after %s: %+v", step.after, changes)
		}
		if n := count(t, first, "SELECT count(*) FROM revocations WHERE kind = 'keys_changed'") - rows; n != 1 {
			t.Errorf("after %s: announced %d times", step.after, n)
		}
	}
}

// The second call gets the same position, or a later one.
func TestRevokeAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	active := activeKey(t, s)
	var mu sync.Mutex
	var positions []int64
	revoke := func() error {
		outcome, err := s.Rotator.Revoke(t.Context(), active)
		mu.Lock()
		defer mu.Unlock()
		positions = append(positions, outcome.Position)
		return err
	}
	atOnce(t, s, revoke, revoke, revoke)
	if n := count(t, s, "SELECT count(*) FROM revocations WHERE kind = 'key' AND key_id = $1", active); n != 1 {
		t.Errorf("%d rows", n)
	}
	if keysIn(t, s, signing.StateActive) != 1 || keysIn(t, s, signing.StateGone) != 1 {
		t.Error("not one that signs and one that is gone")
	}
	head := int64(count(t, s, "SELECT seq FROM ledger_head"))
	if !slices.Equal(positions, []int64{head, head, head}) {
		t.Errorf("positions %v, the head is %d", positions, head)
	}
}

// Nothing is stored and nothing announced.
func TestChangeFails(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	store := signingstore.Store{Pool: s.Pool}
	before, err := store.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := count(t, s, "SELECT seq FROM ledger_head")
	refusal := errors.New("no")
	gone, another, onemore := before[0], before[0], before[0]
	gone.State, another.ID, onemore.ID = signing.StateGone, "another", "one-more"
	for want, change := range map[string]func([]signing.StoredKey) (signing.KeyUpdate, error){
		refusal.Error(): func(keys []signing.StoredKey) (signing.KeyUpdate, error) {
			return signing.KeyUpdate{Keys: keys}, refusal
		},
		"signing key one-more:": func([]signing.StoredKey) (signing.KeyUpdate, error) {
			return signing.KeyUpdate{Keys: []signing.StoredKey{another, onemore, gone}}, nil
		},
	} {
		position, err := store.ChangeSigningKeys(t.Context(), change)
		if err == nil || position != 0 || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%d, %v", position, err)
		}
	}
	after, err := store.SigningKeys(t.Context())
	if err != nil || len(after) != 1 || after[0].State != signing.StateActive || count(t, s, "SELECT seq FROM ledger_head") != head {
		t.Errorf("%+v, %v", after, err)
	}
}

// Neither after their time nor after a revocation. The database ensures it, whatever the program does.
func TestGoneKeysLeaveNoSecret(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	secretOf := func(id string) (sealed []byte) {
		if err := s.Pool.QueryRow(t.Context(), "SELECT sealed FROM signing_keys WHERE id = $1", id).Scan(&sealed); err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	aged := activeKey(t, s)
	secrets := [][]byte{secretOf(aged)}
	rotateNow(t, s)
	s.Clock.Advance(testenv.MaxAccessTTL + time.Hour)
	if _, err := s.Rotator.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	revoked := activeKey(t, s)
	secrets = append(secrets, secretOf(revoked))
	if _, err := s.Rotator.Revoke(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	if keysIn(t, s, signing.StateGone) != 2 || len(secretOf(aged)) != 0 || len(secretOf(revoked)) != 0 {
		t.Error("a key that is gone keeps its secret")
	}
	for _, table := range []string{"signing_keys", "revocations", "audit_events"} {
		for _, secret := range secrets {
			if n := count(t, s, "SELECT count(*) FROM "+table+" r WHERE position(encode($1, 'hex') IN r::text) > 0", secret); n != 0 || len(secret) < 32 {
				t.Errorf("%s holds it", table)
			}
		}
	}
	if _, err := s.Pool.Exec(t.Context(), "UPDATE signing_keys SET sealed = 'x' WHERE id = $1", revoked); err == nil {
		t.Error("it could be put back")
	}
}

// If two reseal a key, the one that read it before the other wrote changes nothing.
func TestResealOnlyWhatWasRead(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	store := signingstore.Store{Pool: s.Pool}
	keys, err := store.SigningKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, sealed := range []string{"first", "second"} {
		if err := store.ResealSigningKey(t.Context(), keys[0].ID, keys[0].Sealed, []byte(sealed)); err != nil {
			t.Error(err)
		}
	}
	again, err := store.SigningKeys(t.Context())
	if err != nil || string(again[0].Sealed) != "first" {
		t.Errorf("%v, %v", again, err)
	}
}
