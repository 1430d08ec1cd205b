package server_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/server"
)

type deadlineKey struct{}

// It behaves like context.WithDeadline, whether or not somebody waited before it ended.
func TestDeadlineIsOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	errCause := errors.New("the parent's cause")
	future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	for name, test := range map[string]struct {
		deadline time.Time
		happens  func(endParent context.CancelCauseFunc, end func())
	}{
		"nothing":             {future, func(context.CancelCauseFunc, func()) {}},
		"its time is over":    {past, func(context.CancelCauseFunc, func()) {}},
		"the call ends":       {future, func(_ context.CancelCauseFunc, end func()) { end() }},
		"the call ends twice": {future, func(_ context.CancelCauseFunc, end func()) { end(); end() }},
		"the parent ends":     {future, func(endParent context.CancelCauseFunc, _ func()) { endParent(errCause) }},
	} {
		for _, waitedFor := range []bool{false, true} {
			see := func(with func(context.Context, time.Time) (context.Context, context.CancelFunc)) [6]any {
				parent, endParent := context.WithCancelCause(context.WithValue(t.Context(), deadlineKey{}, 1))
				defer endParent(nil)
				ctx, end := with(parent, test.deadline)
				defer end()
				if waitedFor {
					ctx.Done()
				}
				test.happens(endParent, end)
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				deadline, ok := ctx.Deadline()
				return [6]any{deadline, ok, ctx.Err(), context.Cause(ctx), child.Err(), ctx.Value(deadlineKey{})}
			}
			if got, want := see(server.WithDeadline), see(context.WithDeadline); got != want {
				t.Errorf("%s, waited for: %v: got %v, want %v", name, waitedFor, got, want)
			}
		}
	}
}

// TestDeadlineWakesWhoWaits checks that every kind of end wakes callers that wait, and that children of the context
// need no goroutine.
func TestDeadlineWakesWhoWaits(t *testing.T) {
	t.Parallel()
	ctx, end := server.WithDeadline(t.Context(), time.Now().Add(20*time.Millisecond))
	defer end()
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("got %v", ctx.Err())
	}
	ctx, end = server.WithDeadline(t.Context(), time.Now().Add(time.Hour))
	before := runtime.NumGoroutine()
	ended := make([]<-chan struct{}, 1000)
	for i := range ended {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		ended[i] = child.Done()
	}
	if more := runtime.NumGoroutine() - before; more > 500 {
		t.Errorf("1,000 children took %d goroutines", more)
	}
	end()
	for _, done := range ended {
		<-done
	}
}
