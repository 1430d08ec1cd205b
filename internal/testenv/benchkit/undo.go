package benchkit

import (
	"context"
	"errors"
	"slices"
	"time"
)

// stopPatience is how long a server may take to stop.
const stopPatience = 15 * time.Second

// Undo is what a run has to undo when it ends. The zero value is empty.
type Undo struct{ steps []func() error }

// Add adds a step.
func (u *Undo) Add(step func() error) { u.steps = append(u.steps, step) }

// Stop adds the end of a server. It may take some seconds even if ctx has ended by then.
func (u *Undo) Stop(ctx context.Context, stop func(context.Context) error) {
	u.Add(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		return stop(ctx)
	})
}

// All undoes everything, the last thing first.
func (u *Undo) All() error {
	var errs []error
	for _, step := range slices.Backward(u.steps) {
		errs = append(errs, step())
	}
	u.steps = nil
	return errors.Join(errs...)
}
