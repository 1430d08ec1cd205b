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
	// The first answers are there after about a millisecond; a replica that takes
	// longer is busy or gone, and asking more often would not help it.
	firstPoll   = 500 * time.Microsecond
	longestPoll = 20 * time.Millisecond
	pollTimeout = time.Second
	// timelineBits are those of a position that the server's timeline fills.
	timelineBits = 40
)

// waiters are the revocations that are not final yet. One goroutine asks for all.
type waiters struct {
	mu      sync.Mutex
	waiting map[*waiter]struct{}
	asking  bool
	// round counts the readings of the table. One that began before a waiter came may
	// lack a replica that joined in between and trusts a memory without the row.
	round int64
	known replicaSet
	// burying are replicas that are to be deleted.
	burying map[uuid.UUID]struct{}

	waits, timedOut, waited atomic.Int64
}

type waiter struct {
	position int64
	since    time.Duration // on the boot clock, when the commit had returned
	round    int64         // the last reading that had begun by then
	done     chan struct{}
}

// replicaSet is what this process knows of the table of replicas.
type replicaSet struct {
	// longest is the longest lease seen in it: one that has gone from the table
	// meanwhile is no reason to wait less.
	longest time.Duration
	// timeline of the last position, and until when (boot clock) the table may lack
	// joins that a failover lost.
	timeline   int64
	incomplete time.Duration
}

// Wait returns nil once the row at position, whose commit has returned, is final: each
// replica has applied it, or one lease has passed since Wait was called. By then a
// replica that did not see the row has no trust left, since it asked for its lease
// before the row was visible; one that joins later reads after its join and sees it.
// Nothing but the clock of this process counts, and PostgreSQL may even be gone.
//
// Position 0 is final. An error is ctx's: the row stands, and may not be final.
func (l *Ledger) Wait(ctx context.Context, position int64) error {
	if position == 0 {
		return nil
	}
	l.poke()
	w := &waiter{position: position, since: l.cfg.Boot(), done: make(chan struct{})}
	ws := &l.waiters
	ws.see(position, w.since)
	ws.mu.Lock()
	if ws.waiting == nil {
		ws.waiting = map[*waiter]struct{}{}
	}
	w.round = ws.round
	ws.waiting[w] = struct{}{}
	if !ws.asking {
		ws.asking = true
		go l.ask(context.WithoutCancel(ctx))
	}
	ws.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the replicas: %w", ctx.Err())
	}
}

// see notes a change of timeline: a failover to a standby may have lost replicas that
// had just joined, and they may trust their memory for one more lease.
func (ws *waiters) see(position int64, now time.Duration) {
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

// ask reads the table of replicas until nobody waits any more.
func (l *Ledger) ask(ctx context.Context) {
	ws := &l.waiters
	pause := firstPoll
	for {
		ws.mu.Lock()
		ws.round++
		ws.mu.Unlock()
		replicas, err := l.readReplicas(ctx)
		ws.mu.Lock()
		released, late := l.release(replicas, err == nil)
		if len(ws.waiting) == 0 {
			ws.asking = false
		}
		over := !ws.asking
		ws.mu.Unlock()
		if late > 0 {
			l.expel(ctx, replicas, late)
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

// release lets those go whose rows are final, and returns the highest position that
// some replica did not apply within a lease, or 0. Without an answer only time counts.
func (l *Ledger) release(replicas []db.ListReplicasRow, answered bool) (released bool, late int64) {
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

// allApplied looks at this process's own memory rather than at its row, which is
// written a moment later.
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

// expel marks replicas that did not apply a row within a lease: they are gone or
// stalled, and every revocation would wait a lease for them. They may come back by
// joining anew.
func (l *Ledger) expel(ctx context.Context, replicas []db.ListReplicasRow, position int64) {
	ws := &l.waiters
	var late []uuid.UUID
	ws.mu.Lock()
	for _, r := range replicas {
		if _, known := ws.burying[r.ID]; r.AppliedSeq < position && !known {
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
		l.cfg.Logger.WarnContext(ctx, "late replicas not marked, revocations go on to wait for them", "error", err)
		return
	}
	l.cfg.Logger.WarnContext(ctx, "replicas did not follow the ledger within a lease", "replicas", late, "position", position)
	ws.mu.Lock()
	if ws.burying == nil {
		ws.burying = map[uuid.UUID]struct{}{}
	}
	for _, id := range late {
		ws.burying[id] = struct{}{}
	}
	lease := ws.known.longest
	ws.mu.Unlock()
	time.AfterFunc(lease, func() { l.bury(context.WithoutCancel(ctx), late) })
}

// bury deletes replicas that were marked a lease ago, on this process's own clock:
// they have no trust left. Should this process die before, the next revoker that
// finds them in its way does the same.
func (l *Ledger) bury(ctx context.Context, ids []uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if err := l.queries.DeleteReplicas(ctx, l.cfg.Pool, ids); err != nil {
		l.cfg.Logger.WarnContext(ctx, "dead replicas not deleted", "replicas", ids, "error", err)
	}
	l.waiters.mu.Lock()
	defer l.waiters.mu.Unlock()
	for _, id := range ids {
		delete(l.waiters.burying, id)
	}
}
