package besteffort

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/panics"
)

const (
	// afterwardsTime bounds work that a call has left behind.
	afterwardsTime = 10 * time.Second
	// afterwardsAtOnce bounds how much of it is under way. Calls that come while it is full wait for a place, which slows a
	// flood down, and tells nothing of what they leave behind.
	afterwardsAtOnce = 64
)

// Afterwards does work that a call's answer does not wait for, so that the answer's time does not tell of it. Use
// NewAfterwards.
type Afterwards struct {
	log    *slog.Logger
	places chan struct{} // holds one for each work under way
	all    sync.WaitGroup
}

// NewAfterwards returns one that logs failures to log.
func NewAfterwards(log *slog.Logger) *Afterwards {
	return &Afterwards{log: log, places: make(chan struct{}, afterwardsAtOnce)}
}

// Do begins the work, which has 10 s. A failure is logged: the answer has been given.
func (a *Afterwards) Do(ctx context.Context, doing string, work func(context.Context) error) {
	run := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwardsTime)
		defer cancel()
		var err error
		if panicked := panics.Run(func() { err = work(ctx) }); panicked != nil {
			err = panicked
		}
		if err != nil {
			c := caller.From(ctx)
			a.log.WarnContext(ctx, "work after a call was not done", "doing", doing, "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
		}
	}
	place := time.NewTimer(DetachTime)
	defer place.Stop()
	select {
	case a.places <- struct{}{}:
		a.all.Go(func() {
			defer func() { <-a.places }()
			run()
		})
	case <-place.C: // the database hangs
		run()
	}
}

// Fill takes every place, so that work waits for one, until free is called. It is for tests.
func (a *Afterwards) Fill() (free func()) {
	for range cap(a.places) {
		a.places <- struct{}{}
	}
	return func() {
		for range cap(a.places) {
			<-a.places
		}
	}
}

// Wait returns when all work is done: within 10 s.
func (a *Afterwards) Wait() { a.all.Wait() }
