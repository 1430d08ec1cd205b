package server_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOverloadAsksNoStore: while as many logins as the hasher has places for wait for PostgreSQL, the next one is turned
// away at once. It must not join them and run into its deadline.
func TestOverloadAsksNoStore(t *testing.T) {
	t.Parallel()
	store := testenv.NewProxy(t, testenv.Migrated(t))
	s := testenv.Start(t, testenv.Options{DatabaseURL: store.URL(), HashSlots: 1, HashQueue: 2})
	signUp(t, s, email)
	store.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	const calls, places = 10, 1 + 2
	answers := make(chan error, calls)
	for range calls {
		go func() { answers <- tryLogin(ctx, s, email, password) }()
	}
	for range calls - places {
		err := <-answers
		wantRefused(t, err, codes.ResourceExhausted, "OVERLOADED")
		retryAfter(t, err)
	}
	cancel()
	for range places {
		if err := <-answers; status.Code(err) != codes.Canceled {
			t.Errorf("a login that waited for PostgreSQL: %v", err)
		}
	}
	store.Restore()
	testenv.Eventually(t, patience, "there is room again", func() bool {
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
		return err == nil
	})
}
