package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// deadlineContext is like context.WithDeadline, but sets its timer only when somebody waits for it. A validation that
// is answered from memory waits for nothing, and setting and stopping a timer would be a sixth of the interceptors'
// time. If it ends for several reasons before anybody waits, Err returns any one of them.
type deadlineContext struct {
	context.Context //nolint:containedctx // the parent: this is a context itself
	deadline        time.Time

	// waited is the context with the timer, or nil until it is needed.
	waited atomic.Pointer[context.Context]

	mu     sync.Mutex
	ended  bool
	cancel context.CancelFunc // of waited
}

// withDeadline returns the context and the function that ends it.
func withDeadline(parent context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	d := &deadlineContext{Context: parent, deadline: deadline}
	return d, d.end
}

func (d *deadlineContext) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.cancel != nil {
		d.cancel()
	}
}

func (d *deadlineContext) wait() context.Context {
	if waited := d.waited.Load(); waited != nil {
		return *waited
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if waited := d.waited.Load(); waited != nil {
		return *waited
	}
	ctx, cancel := context.WithDeadline(d.Context, d.deadline)
	if d.ended {
		cancel()
	}
	d.cancel = cancel
	d.waited.Store(&ctx)
	return ctx
}

// Deadline implements context.Context.
func (d *deadlineContext) Deadline() (time.Time, bool) { return d.deadline, true }

// Done implements context.Context.
func (d *deadlineContext) Done() <-chan struct{} { return d.wait().Done() }

// Err implements context.Context.
func (d *deadlineContext) Err() error { return d.wait().Err() }

// Value implements context.Context. If there is a timer, package context finds it under a key of its own, so that a
// child of this context needs no goroutine.
func (d *deadlineContext) Value(key any) any {
	if waited := d.waited.Load(); waited != nil {
		return (*waited).Value(key)
	}
	return d.Context.Value(key)
}
