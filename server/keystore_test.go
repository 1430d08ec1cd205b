package server_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/server"
)

// TestActivateAtOnce: replicas that each made a key settle on one, without an error.
func TestActivateAtOnce(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{}) // it has made an EdDSA key
	store := server.KeyStore{Pool: s.Pool}
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // ends the lock
	// With the active key held, all of them are under way before one can finish.
	if _, err := tx.Exec(t.Context(), "SELECT FROM signing_keys FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	const replicas = 4
	var wg sync.WaitGroup
	for i := range replicas {
		wg.Go(func() {
			key := token.StoredKey{ID: fmt.Sprint("key ", i), Algorithm: "ES256", Sealed: []byte("sealed"), Public: []byte("public"), CreateTime: s.Clock.Now()}
			if err := store.ActivateSigningKey(t.Context(), key); err != nil {
				t.Error(err)
			}
		})
	}
	testenv.Eventually(t, patience, "all of them wait", func() bool {
		return lockWaits(t, s) == replicas
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := count(t, s, "SELECT count(*) FROM signing_keys WHERE algorithm = 'ES256' AND state = 'active'"); n != 1 {
		t.Errorf("%d keys sign", n)
	}
	if n := count(t, s, "SELECT count(*) FROM signing_keys"); n != 2 {
		t.Errorf("%d keys, want the former one and the one that was first", n)
	}
	if n := count(t, s, "SELECT count(*) FROM signing_keys WHERE algorithm = 'EdDSA' AND state = 'verify_only'"); n != 1 {
		t.Error("the former key does not verify what it signed")
	}
}

// TestResealOnlyWhatWasRead: of two that reseal a key, the one that read it before
// the other wrote changes nothing.
func TestResealOnlyWhatWasRead(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	store := server.KeyStore{Pool: s.Pool}
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
