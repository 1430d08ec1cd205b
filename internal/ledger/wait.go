package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
)

const (
	// The first replicas have applied a row after about a millisecond. One that takes longer is busy or dead,
	// and more frequent polls would not help it.
	firstPoll   = 500 * time.Microsecond
	longestPoll = 20 * time.Millisecond
	pollTimeout = time.Second
	// timelineBits is how far the server's timeline is shifted in a position.
	timelineBits = 40
)

// waiters has the revocations that are not final yet. One goroutine polls the replicas for all of them.
type waiters struct {
	mu      sync.Mutex
	waiting map[*waiter]struct{}
	polling bool
	// round counts the reads of the table. A read that began before a waiter came may lack a replica that joined
	// in between and has a lease on memory without the row.
	round int64
	known replicaSet
	// dying has the replicas that will be deleted.
	dying map[uuid.UUID]struct{}

	waits, timedOut, waited atomic.Int64
}

type waiter struct {
	position int64
	since    time.Duration // on the boot clock, when the commit had returned
	round    int64         // the last read that had begun by then
	done     chan struct{}
}

// replicaSet is what this process knows about the table of replicas.
type replicaSet struct {
	// longest is the longest lease ever seen in it. A replica that has left the table may still have its lease.
	longest time.Duration
	// timeline is that of the last position. Until incomplete (boot clock) the table may lack replicas whose
	// join was lost in a failover.
	timeline   int64
	incomplete time.Duration
}

// Wait returns nil when the row at position is final. Its commit must have returned. The row is final when
// each replica has applied it, or when one lease has passed since Wait was called: a replica that did not see
// the row sent its renewal before the row was visible, so its lease has expired by then; a replica that joins
// later reads after its join and sees the row. Only the clock of this process counts, and PostgreSQL may even
// be down.
//
// Position 0 is final. An error is that of ctx: the row is written, but may not be final.
func (l *Ledger) Wait(ctx context.Context, position int64) error {
	if position == 0 {
		return nil
	}
	l.wake()
	w := &waiter{position: position, since: l.cfg.Boot(), done: make(chan struct{})}
	ws := &l.waiters
	ws.noteTimeline(position, w.since)
	ws.mu.Lock()
	if ws.waiting == nil {
		ws.waiting = map[*waiter]struct{}{}
	}
	w.round = ws.round
	ws.waiting[w] = struct{}{}
	if !ws.polling {
		ws.polling = true
		go l.pollReplicas(context.WithoutCancel(ctx))
	}
	ws.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the replicas: %w", ctx.Err())
	}
}

// noteTimeline notices a change of timeline: a failover to a standby may have lost the rows of replicas that
// had just joined, and they may keep their lease for its whole length.
func (ws *waiters) noteTimeline(position int64, now time.Duration) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	timeline := position >> timelineBits
	if ws.known.timeline != 0 && timeline > ws.known.timeline {
		ws.known.incomplete = now + ws.known.longest
	}
	ws.known.timeline = max(ws.known.timeline, timeline)
}

func (ws *waiters) learn(replicas []db.ListReplicasRow) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.known.learn(replicas)
}

func (r *replicaSet) learn(replicas []db.ListReplicasRow) {
	for _, one := range replicas {
		r.longest = max(r.longest, time.Duration(one.LeaseMs)*time.Millisecond)
	}
}

// pollReplicas reads the table of replicas until nobody waits any more.
func (l *Ledger) pollReplicas(ctx context.Context) {
	ws := &l.waiters
	pause := firstPoll
	for {
		ws.mu.Lock()
		ws.round++
		ws.mu.Unlock()
		replicas, err := l.readReplicas(ctx)
		ws.mu.Lock()
		released, late := l.releaseLocked(replicas, err == nil)
		if len(ws.waiting) == 0 {
			ws.polling = false
		}
		over := !ws.polling
		ws.mu.Unlock()
		if late > 0 {
			l.markDead(ctx, replicas, late)
		}
		if over {
			return
		}
		pause = min(pause*3/2, longestPoll)
		if released {
			pause = firstPoll
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done(): // never: detached
		}
		timer.Stop()
	}
}

func (l *Ledger) readReplicas(ctx context.Context) ([]db.ListReplicasRow, error) {
	ctx, cancel := context.WithTimeout(ctx, min(pollTimeout, l.cfg.Lease))
	defer cancel()
	return l.queries.ListReplicas(ctx, l.cfg.Pool)
}

// releaseLocked wakes waiters whose rows are final. It returns the highest position that some replica did not
// apply within a lease, or 0. If the read failed (answered is false), only time counts. ws.mu must be held.
func (l *Ledger) releaseLocked(replicas []db.ListReplicasRow, answered bool) (released bool, late int64) {
	ws := &l.waiters
	ws.known.learn(replicas)
	now := l.cfg.Boot()
	for w := range ws.waiting {
		applied := answered && w.round < ws.round && now >= ws.known.incomplete && l.allApplied(replicas, w.position)
		timedOut := !applied && now-w.since >= ws.known.longest
		if !applied && !timedOut {
			continue
		}
		if timedOut {
			ws.timedOut.Add(1)
			late = max(late, w.position)
		}
		ws.waits.Add(1)
		ws.waited.Add(int64(now - w.since))
		delete(ws.waiting, w)
		close(w.done)
		released = true
	}
	return released, late
}

// allApplied returns whether all replicas have applied the row at position. For this process it looks at its
// memory: its row in the table is written a moment later.
func (l *Ledger) allApplied(replicas []db.ListReplicasRow, position int64) bool {
	own := l.id.Load()
	for _, r := range replicas {
		applied := r.AppliedSeq
		if own != nil && r.ID == *own {
			applied = max(applied, l.applied.Load())
		}
		if applied < position {
			return false
		}
	}
	return true
}

// markDead marks replicas that did not apply a row within a lease: they are dead or stalled, and every
// revocation would wait a lease for them. A replica that was only stalled joins again.
func (l *Ledger) markDead(ctx context.Context, replicas []db.ListReplicasRow, position int64) {
	ws := &l.waiters
	var late []uuid.UUID
	ws.mu.Lock()
	for _, r := range replicas {
		if _, known := ws.dying[r.ID]; r.AppliedSeq < position && !known {
			late = append(late, r.ID)
		}
	}
	ws.mu.Unlock()
	if len(late) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	err := l.queries.ExpelReplicas(ctx, l.cfg.Pool, db.ExpelReplicasParams{Ids: late, Seq: position})
	if err != nil {
		l.cfg.Logger.WarnContext(ctx, "late replicas not marked, revocations continue to wait for them", "error", err)
		return
	}
	l.cfg.Logger.WarnContext(ctx, "replicas did not follow the ledger within a lease", "replicas", late, "position", position)
	ws.mu.Lock()
	if ws.dying == nil {
		ws.dying = map[uuid.UUID]struct{}{}
	}
	for _, id := range late {
		ws.dying[id] = struct{}{}
	}
	lease := ws.known.longest
	ws.mu.Unlock()
	time.AfterFunc(lease, func() { l.deleteDead(context.WithoutCancel(ctx), late) })
}

// deleteDead deletes replicas that were marked a lease ago, on this process's own clock: their leases have
// expired. If this process dies before, the next revoker that has to wait for them deletes them.
func (l *Ledger) deleteDead(ctx context.Context, ids []uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if err := l.queries.DeleteReplicas(ctx, l.cfg.Pool, ids); err != nil {
		l.cfg.Logger.WarnContext(ctx, "dead replicas not deleted", "replicas", ids, "error", err)
	}
	l.waiters.mu.Lock()
	defer l.waiters.mu.Unlock()
	for _, id := range ids {
		delete(l.waiters.dying, id)
	}
}
