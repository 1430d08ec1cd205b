package server_test

import (
	"bytes"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/authverify"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// Streams end one after another because their connections are old. A service that checks tokens notices nothing, and
// knows what was revoked in between.
func TestAuthverifyOutlivesItsConnections(t *testing.T) {
	t.Parallel()
	const age, ends = 3 * time.Second, 2
	s := testenv.Start(t, testenv.Options{WallClock: true, ConnectionAge: age})
	kept := account(t, s)
	logs := &testenv.Logs{}
	var stale atomic.Int64
	service, err := authverify.NewVerifier(authverify.Config{
		Issuer: testenv.Issuer, Audience: testenv.Audience, JWKSURL: s.HTTP + "/.well-known/jwks.json",
		Conn: testenv.Dial(t, s.Addr), ServiceKey: testenv.ServiceKey,
		OnFreshness: func(fresh bool) {
			if !fresh {
				stale.Add(1)
			}
		},
		Logger: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	if err := service.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := func() int { return bytes.Count(logs.Bytes(), []byte("the stream of revocations ended")) }
	for n := range ends {
		testenv.Eventually(t, patience, "another stream ends", func() bool { return ended() > n })
		tokens := logIn(t, s, email)
		if _, err := service.Verify(t.Context(), tokens.GetAccessToken()); err != nil {
			t.Errorf("after %d streams: %v", n+1, err)
		}
		logOut(t, s, tokens.GetRefreshToken())
		testenv.Eventually(t, patience, "the logout is known", func() bool {
			_, err := service.Verify(t.Context(), tokens.GetAccessToken())
			return errors.Is(err, authverify.ErrRevoked)
		})
		if _, err := service.Verify(t.Context(), kept.GetAccessToken()); err != nil {
			t.Errorf("after %d streams: %v", n+1, err)
		}
	}
	if stale.Load() > 0 {
		t.Errorf("the revocations were out of date %d times", stale.Load())
	}
	// A planned end makes no warning for an operator.
	if all := logs.Bytes(); bytes.Contains(all, []byte("level=WARN")) {
		t.Errorf("%s", all)
	}
}
