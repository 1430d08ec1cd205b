//go:build linux

package history

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// faults disturb the replicas of a world, one after the other.
type faults struct {
	w     *world
	lease time.Duration
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// freeze stops a replica in the middle of its work, with the calls that come to it meanwhile, and continues it after a
// while.
func (f faults) freeze(ctx context.Context, t testing.TB, r *replica, d time.Duration) {
	t.Helper()
	r.frozen.Store(true)
	r.signal(t, syscall.SIGSTOP)
	pause(ctx, d)
	r.frozen.Store(false)
	r.signal(t, syscall.SIGCONT)
}

// shortFreeze ends before the lease does, longFreeze after it.
func (f faults) shortFreeze(ctx context.Context, t testing.TB, r *replica) {
	t.Helper()
	f.freeze(ctx, t, r, f.lease*4/10)
}

func (f faults) longFreeze(ctx context.Context, t testing.TB, r *replica) {
	t.Helper()
	f.freeze(ctx, t, r, f.lease*17/10)
}

// cutListen and cutLedger end the connections on which all replicas are notified of rows, and read them.
func (f faults) cutListen(ctx context.Context, t testing.TB) {
	t.Helper()
	f.cut(ctx, t, "latchkey listen")
}

func (f faults) cutLedger(ctx context.Context, t testing.TB) {
	t.Helper()
	f.cut(ctx, t, "latchkey ledger")
}

func (f faults) cut(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	const terminate = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1`
	var ended int
	if err := f.w.pool.QueryRow(ctx, terminate, name).Scan(&ended); err != nil {
		t.Errorf("cut %q: %v", name, err)
		return
	}
	if ended == 0 {
		t.Logf("no connection %q to cut: they are being made anew", name)
	}
}

// flush empties Redis: sessions and counters are lost.
func (f faults) flush(ctx context.Context, t testing.TB) {
	t.Helper()
	lost := window{from: f.w.moments.Add(1)}
	if err := f.w.redis.FlushAll(ctx).Err(); err != nil {
		t.Errorf("flush Redis: %v", err)
	}
	lost.to = f.w.moments.Add(1)
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.flushes = append(f.w.flushes, lost)
}

// crash kills a replica and starts it again under load.
func (f faults) crash(ctx context.Context, t testing.TB, r *replica) {
	t.Helper()
	r.down.Store(true)
	r.kill()
	r.start(ctx, t)
	r.down.Store(false)
}
