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
	// afterwardsTime limits work after an answer.
	afterwardsTime = 10 * time.Second
	// afterwardsAtOnce limits how much of this work runs at once. If it is reached, calls wait for a place before they
	// answer. That slows a flood down, and reveals nothing about the work.
	afterwardsAtOnce = 64
)

// Afterwards does work for which the answer to a call does not wait, so that the time of the answer reveals nothing
// about the work. Use NewAfterwards.
type Afterwards struct {
	log    *slog.Logger
	places chan struct{} // has one value for each piece of work that runs
	all    sync.WaitGroup
}

// NewAfterwards returns an Afterwards that logs failures to log.
func NewAfterwards(log *slog.Logger) *Afterwards {
	return &Afterwards{log: log, places: make(chan struct{}, afterwardsAtOnce)}
}

// Do starts the work, which may take 10 s. A failure is only logged, because the answer does not wait.
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
	case <-place.C: // the database does not answer
		run()
	}
}

// Fill takes every place, so that work waits for a place until free is called. It is for tests.
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

// Wait returns when all work is done, which takes at most 10 s.
func (a *Afterwards) Wait() { a.all.Wait() }
