//go:build unix

package server_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// failoverLease is short, so that a test lasts for several leases.
const failoverLease = time.Second

// onPair starts a replica that knows both servers of a pair.
func onPair(t *testing.T, pair *testenv.Pair, redisURL string) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{
		DatabaseURL: pair.URL(), RedisURL: redisURL, Lease: failoverLease, WallClock: true,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
}

// The old primary is set read-only and keeps its connections, and the standby is promoted. A replica that only
// validates makes no write that would show this. It must not accept a session that was logged out at the new primary.
func TestAttack13ReadOnlyPrimary(t *testing.T) {
	t.Parallel()
	pair, store := testenv.NewPair(t), testenv.Redis(t)
	stays := onPair(t, pair, store)
	tokens := account(t, stays)
	wantValid(t, stays, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
	pair.SetReadOnly()
	pair.Promote()
	moves := onPair(t, pair, store)
	logOut(t, moves, tokens.GetRefreshToken())
	// For as long as a replica might still believe the old one.
	for began := time.Now(); time.Since(began) < 3*failoverLease; {
		resp, err := stays.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
		if err == nil && resp.GetValid() {
			t.Fatalf("accepted %s after its logout was answered", time.Since(began))
		}
	}
	testenv.Eventually(t, patience, "the replica has found the new primary", func() bool {
		return stays.Ledger.Trusted() && tryLogin(t.Context(), stays, email, password) == nil
	})
	wantValid(t, stays, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED)
}

// TestAttack13ReadOnlyPrimaryUnderTraffic and TestAttack13Failover: two replicas, and calls all the time, before,
// during and after.
func TestAttack13ReadOnlyPrimaryUnderTraffic(t *testing.T) {
	t.Parallel()
	failOver(t, (*testenv.Pair).SetReadOnly)
}

// TestAttack13Failover kills the old primary.
func TestAttack13Failover(t *testing.T) {
	t.Parallel()
	failOver(t, (*testenv.Pair).Kill)
}

func failOver(t *testing.T, lose func(*testenv.Pair)) {
	t.Helper()
	pair, store := testenv.NewPair(t), testenv.Redis(t)
	w := &traffic{replicas: []*testenv.Server{onPair(t, pair, store), onPair(t, pair, store)}}
	const workers = 4
	for i := range workers {
		signUp(t, w.replicas[0], trafficEmail(i))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() { w.work(ctx, i) })
	}
	for i := range w.replicas {
		running.Go(func() { w.check(ctx, i) })
	}
	w.await(t, "all is well before", 20)
	lose(pair)
	pair.Promote()
	w.await(t, "all is well at the new primary", 20)
	stop()
	running.Wait()
	for _, accepted := range w.accepted {
		t.Error(accepted)
	}
	t.Logf("%d logouts, %d failed calls, %d checks", w.logouts.Load(), w.failed.Load(), w.checks.Load())
}

// traffic has clients that log in, validate and log out at any replica.
type traffic struct {
	replicas []*testenv.Server
	failed   atomic.Int64
	logouts  atomic.Int64
	checks   atomic.Int64

	mu       sync.Mutex
	ended    []string // access tokens whose logout was answered
	done     [2]int   // logouts that each replica has answered
	refused  [2]int   // ended tokens that each replica has refused
	accepted []string
}

func trafficEmail(i int) string { return fmt.Sprintf("traffic%d@example.com", i) }

// anybody returns a context for a call from an address of its own, so that no limit applies.
func anybody(ctx context.Context) (context.Context, context.CancelFunc) {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<24))
	if err != nil {
		panic(err)
	}
	at := n.Int64()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", fmt.Sprintf("100.%d.%d.%d", at>>16, at>>8&255, at&255))
	return context.WithTimeout(ctx, 5*time.Second)
}

func (w *traffic) any() int {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(w.replicas))))
	if err != nil {
		panic(err)
	}
	return int(n.Int64())
}

// work logs in and out until ctx ends.
func (w *traffic) work(ctx context.Context, i int) {
	for ctx.Err() == nil {
		if err := w.session(ctx, i); err != nil {
			w.failed.Add(1)
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (w *traffic) session(ctx context.Context, i int) error {
	call, cancel := anybody(ctx)
	defer cancel()
	resp, err := w.replicas[w.any()].Auth.Login(call, &latchkeyv1.LoginRequest{Email: trafficEmail(i), Password: password})
	if err != nil {
		return err
	}
	tokens := resp.GetTokens()
	for _, replica := range w.replicas { // so that each has it in memory
		if _, err := replica.Auth.ValidateToken(call, &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()}); err != nil {
			return err
		}
	}
	at := w.any()
	if _, err := w.replicas[at].Auth.Logout(call, &latchkeyv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()}); err != nil {
		return err
	}
	w.logouts.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, tokens.GetAccessToken())
	w.done[at]++
	return nil
}

// check validates ended tokens at one replica, the newest and older ones in turn.
func (w *traffic) check(ctx context.Context, at int) {
	const newest = 8
	for turn := 0; ctx.Err() == nil; turn++ {
		w.mu.Lock()
		ended := append([]string(nil), w.ended[max(0, len(w.ended)-newest):]...)
		if len(w.ended) > 0 {
			ended = append(ended, w.ended[turn%len(w.ended)])
		}
		w.mu.Unlock()
		if len(ended) == 0 {
			time.Sleep(time.Millisecond)
		}
		for _, accessToken := range ended {
			w.one(ctx, at, accessToken)
		}
	}
}

func (w *traffic) one(ctx context.Context, at int, accessToken string) {
	call, cancel := anybody(ctx)
	defer cancel()
	resp, err := w.replicas[at].Auth.ValidateToken(call, &latchkeyv1.ValidateTokenRequest{AccessToken: accessToken})
	w.checks.Add(1)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !resp.GetValid() {
		w.refused[at]++
		return
	}
	if len(w.accepted) < 10 {
		w.accepted = append(w.accepted, fmt.Sprintf("replica %d accepted a token whose logout was answered", at))
	}
}

// await waits until each replica has answered more logouts and refused more tokens than now.
func (w *traffic) await(t *testing.T, what string, more int) {
	t.Helper()
	w.mu.Lock()
	done, refused := w.done, w.refused
	w.mu.Unlock()
	testenv.Eventually(t, patience, what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range w.replicas {
			if w.done[i] < done[i]+more || w.refused[i] < refused[i]+more {
				return false
			}
		}
		return true
	})
}
