package server

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// repeatsCounted is how long what repeats is counted on its first event: a thief can
// repeat a refresh thousands of times in the grace.
const repeatsCounted = time.Minute

// auditRepeated is audit for what a caller can do over and over in one session: the first
// makes an event, which then counts the others of a minute.
func (s *Server) auditRepeated(ctx context.Context, kind auditKind, userID, sessionID uuid.UUID) error {
	// One at a time: those that come at once would each find no event.
	release, err := s.repeating.hold(ctx, sessionID)
	if err != nil {
		return err
	}
	defer release()
	c := callFrom(ctx)
	now := s.cfg.Now()
	return s.queries.RecordRepeatedEvent(ctx, s.cfg.Pool, db.RecordRepeatedEventParams{
		CreatedAt: now, Since: now.Add(-repeatsCounted), Kind: string(kind), UserID: userID, SessionID: sessionID,
		Address: addressText(c), TraceID: c.traceID, CallID: c.id,
	})
}

// keyedLocks holds a lock for each key that somebody holds or waits for. The zero value
// is ready.
type keyedLocks struct {
	mu   sync.Mutex
	held map[uuid.UUID]*keyedLock
}

type keyedLock struct {
	turn chan struct{} // holds a token while the lock is held
	uses int           // holders and waiters
}

// hold waits for the lock of key, or until ctx ends.
func (k *keyedLocks) hold(ctx context.Context, key uuid.UUID) (release func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[uuid.UUID]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{turn: make(chan struct{}, 1)}
		k.held[key] = l
	}
	l.uses++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.uses--; l.uses == 0 {
			delete(k.held, key)
		}
	}
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
