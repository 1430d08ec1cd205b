package audit

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// keyedLocks has a lock for each key that somebody holds or waits for. The zero value is ready.
type keyedLocks struct {
	mu   sync.Mutex
	held map[uuid.UUID]*keyedLock
}

type keyedLock struct {
	turn chan struct{} // has a token while the lock is held
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
