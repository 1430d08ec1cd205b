package password

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// arrival is one caller of a random schedule. Every arrival has its own nanosecond, so that no two events happen at the
// same instant.
type arrival struct {
	by       Claim
	at       time.Duration // after the start
	units    uint64
	patience time.Duration // until the deadline; 0: none
	takes    time.Duration // how long the slot is really held
	cancel   time.Duration // when the context is cancelled; 0: never
}

func drawArrivals(t *rapid.T) []arrival {
	arrivals := make([]arrival, rapid.IntRange(1, 60).Draw(t, "callers"))
	networks := rapid.IntRange(1, 4).Draw(t, "networks")
	at := time.Duration(0)
	for i := range arrivals {
		at += time.Duration(rapid.IntRange(0, 15).Draw(t, "gap")) * time.Millisecond
		units := rapid.Uint64Range(1, 30).Draw(t, "units")
		arrivals[i] = arrival{
			by: Claim{
				Network: string(rune('A' + rapid.IntRange(0, networks-1).Draw(t, "network"))),
				Address: string(rune('a' + rapid.IntRange(0, 1).Draw(t, "address"))),
				Known:   rapid.IntRange(0, 2).Draw(t, "known") == 0,
			},
			at:       at + time.Duration(i),
			units:    units,
			patience: time.Duration(rapid.IntRange(0, 100).Draw(t, "patience")) * time.Millisecond,
			takes:    time.Duration(units) * time.Millisecond,
		}
	}
	return arrivals
}

// outcome is the result of a schedule: when each caller got its slot (negative: never), its error, and the highest use
// that was seen on the way.
type outcome struct {
	granted []time.Duration
	errs    []error
	most    Stats // most slots in use and most callers waiting
	end     Stats
}

// play runs a schedule in virtual time.
func play(t *testing.T, slots, queue int, arrivals []arrival, probes bool) (out outcome) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		start := time.Now()
		a := newAdmission(slots, queue, time.Now, perUnit)
		if !probes {
			a.paces[engineArgon2].probed = start.Add(time.Hour)
		}
		out.granted, out.errs = make([]time.Duration, len(arrivals)), make([]error, len(arrivals))
		var group sync.WaitGroup
		var mu sync.Mutex
		inUse := 0
		hold := func(change int) {
			mu.Lock()
			defer mu.Unlock()
			inUse += change
			s := a.stats()
			out.most.InUse = max(out.most.InUse, inUse, s.InUse)
			out.most.Waiting = max(out.most.Waiting, s.Waiting)
		}
		for i, c := range arrivals {
			group.Go(func() {
				time.Sleep(c.at)
				ctx, cancel := c.context(start)
				defer cancel()
				held, err := a.acquire(ctx, c.by, work{units: c.units})
				out.granted[i], out.errs[i] = -1, err
				if err != nil {
					return
				}
				out.granted[i] = time.Since(start)
				hold(1)
				time.Sleep(c.takes)
				hold(-1)
				a.release(held)
			})
		}
		group.Wait()
		out.end = a.stats()
	})
	return out
}

func (c arrival) context(start time.Time) (context.Context, context.CancelFunc) {
	var ctx context.Context
	var cancel context.CancelFunc
	if c.patience > 0 {
		ctx, cancel = context.WithDeadline(context.Background(), start.Add(c.at+c.patience))
	} else {
		ctx, cancel = context.WithCancel(context.Background())
	}
	if c.cancel > 0 {
		time.AfterFunc(c.cancel, cancel)
	}
	return ctx, cancel
}

func (o outcome) check(t *rapid.T, slots, queue int) {
	if o.most.InUse > slots || o.most.Waiting > queue {
		t.Fatalf("%d of %d slots in use, %d of %d waiting", o.most.InUse, slots, o.most.Waiting, queue)
	}
	if o.end.InUse != 0 || o.end.Waiting != 0 {
		t.Fatalf("at the end %d slots are taken and %d callers wait", o.end.InUse, o.end.Waiting)
	}
}

// With an exact rate every decision is exact. A caller is admitted precisely if there is room for it and it will be
// done by its deadline if nobody comes after it, and it starts when a plain simulation says. model is that simulation.
func TestAdmissionDecidesExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 4).Draw(rt, "slots"), rapid.IntRange(0, 12).Draw(rt, "queue")
		arrivals := drawArrivals(rt)
		out := play(t, slots, queue, arrivals, false)
		for i, want := range newModel(slots, queue, arrivals).run() {
			if out.granted[i] != want {
				rt.Fatalf("caller %d of %+v starts at %v (%v), want %v", i, arrivals, out.granted[i], out.errs[i], want)
			}
			if err := out.errs[i]; want < 0 && !errors.Is(err, ErrOverloaded) && !errors.Is(err, context.DeadlineExceeded) {
				rt.Fatalf("caller %d: %v", i, err)
			}
		}
		out.check(rt, slots, queue)
	})
}

// With estimates that are wrong and callers that give up at any moment, slots and
// queue stay in bounds, the calls of an address keep their order, and nothing is lost.
func TestAdmissionInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 4).Draw(rt, "slots"), rapid.IntRange(0, 6).Draw(rt, "queue")
		arrivals := drawArrivals(rt)
		for i := range arrivals {
			arrivals[i].takes = time.Duration(rapid.IntRange(0, 60).Draw(rt, "takes")) * time.Millisecond
			// In whole milliseconds, so that many happen at the instant of a release.
			arrivals[i].cancel = time.Duration(rapid.IntRange(0, 50).Draw(rt, "cancel")) * time.Millisecond
		}
		out := play(t, slots, queue, arrivals, true)
		last := make(map[Claim]time.Duration)
		for i, at := range out.granted {
			if at >= 0 {
				if by := arrivals[i].by; at < last[by] {
					rt.Fatalf("caller %d of %+v was overtaken: %v", i, arrivals, out.granted)
				}
				last[arrivals[i].by] = at
			} else if err := out.errs[i]; !errors.Is(err, ErrOverloaded) && !errors.Is(err, context.Canceled) &&
				!errors.Is(err, context.DeadlineExceeded) {
				rt.Fatalf("caller %d: %v", i, err)
			}
		}
		out.check(rt, slots, queue)
	})
}
