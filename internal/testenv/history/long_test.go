//go:build linux && history

package history

import (
	"context"
	"slices"
	"testing"
	"time"
)

// TestLongHistory makes 50,000 calls while each fault is repeated.
func TestLongHistory(t *testing.T) {
	const calls = 50_000
	program := build(t, "")
	w := newWorld(t, settings{lease: leaseTime, hash: cheapHash()}, program, program)
	f := faults{w, leaseTime}
	rounds := 0
	runHistory(t, w, calls, func(ctx, enough context.Context) {
		// At least twice, so that each replica is disturbed once.
		for ; rounds < 2 || enough.Err() == nil && ctx.Err() == nil; rounds++ {
			r := w.replicas[rounds%len(w.replicas)]
			for _, disturb := range []func(){
				func() { f.shortFreeze(ctx, t, r) },
				func() { f.cutListen(ctx, t) },
				func() { f.longFreeze(ctx, t, r) },
				func() { f.cutLedger(ctx, t) },
				func() { f.flush(ctx, t) },
				func() { f.crash(ctx, t, r) },
			} {
				pause(ctx, leaseTime)
				disturb()
			}
		}
	})
	t.Logf("%d rounds of faults: each replica frozen for less and for more than its lease, and killed; LISTEN and ledger connections cut, Redis flushed", rounds)
}

// TestRevocationTime measures how long a logout takes until it is final, with the default lease. It fails only for the
// promise about a replica that is gone. The median on a healthy pair, which should be under 5 ms, is printed for
// people, since machines differ.
func TestRevocationTime(t *testing.T) {
	const (
		logouts = 300
		lease   = 5 * time.Second
	)
	program := build(t, "")
	w := newWorld(t, settings{lease: lease, hash: cheapHash()}, program, program)
	a, b := w.replicas[0], w.replicas[1]
	timed := func() time.Duration {
		_, s := w.prepare(t.Context())
		began := time.Now()
		if c := w.logout(t.Context(), a, s, 2*lease); c.Answer != accepted {
			t.Fatal(c)
		}
		return time.Since(began)
	}
	var healthy []time.Duration
	for range logouts {
		healthy = append(healthy, timed())
	}
	slices.Sort(healthy)
	// B can no longer answer prepare: its session is made before.
	_, s := w.prepare(t.Context())
	b.kill()
	began := time.Now()
	if c := w.logout(t.Context(), a, s, 2*lease); c.Answer != accepted {
		t.Fatal(c)
	}
	dead := time.Since(began)
	t.Logf("a logout is final after %s (median of %d, p99 %s) on two healthy replicas; after %s when one was killed, with a lease of %s",
		healthy[logouts/2].Round(10*time.Microsecond), logouts, healthy[logouts*99/100].Round(10*time.Microsecond), dead.Round(time.Millisecond), lease)
	if dead > lease+time.Second {
		t.Errorf("with one replica killed a logout took %s, over a lease and 1 s", dead)
	}
}
