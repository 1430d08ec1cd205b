package server

import (
	"context"
	"time"

	"github.com/latchkey-auth/latchkey/internal/caller"
)

const (
	// afterwardsTime bounds work that a call has left behind.
	afterwardsTime = 10 * time.Second
	// afterwardsAtOnce bounds how much of it is under way. Calls that come while it is full wait for a place, which slows a
	// flood down, and tells nothing of what they leave behind.
	afterwardsAtOnce = 64
)

// afterwards does work that a call's answer does not wait for, so that the answer's time does not tell of it. The work is
// done before Shutdown returns. A failure is logged: the answer has been given.
func (s *Server) afterwards(ctx context.Context, doing string, work func(context.Context) error) {
	run := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwardsTime)
		defer cancel()
		var err error
		if panicked := recovering(func() { err = work(ctx) }); panicked != nil {
			err = panicked
		}
		if err != nil {
			s.log.WarnContext(ctx, "work after a call was not done", "doing", doing, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
		}
	}
	place := time.NewTimer(settleTime)
	defer place.Stop()
	select {
	case s.leftBehind <- struct{}{}:
		s.leaving.Go(func() {
			defer func() { <-s.leftBehind }()
			run()
		})
	case <-place.C: // the database hangs
		run()
	}
}
