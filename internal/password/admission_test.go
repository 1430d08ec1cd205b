package password

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// perUnit makes one unit of work one millisecond.
const perUnit = float64(time.Millisecond)

func mustAcquire(t *testing.T, a *admission, units uint64) *ticket {
	t.Helper()
	held, err := a.acquire(t.Context(), Claim{}, work{units: units})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// checkEmpty fails if a slot or a place in the queue was lost.
func checkEmpty(t *testing.T, a *admission) {
	t.Helper()
	if s := a.stats(); s.InUse != 0 || s.Waiting != 0 {
		t.Errorf("at the end %d slots are taken and %d callers wait", s.InUse, s.Waiting)
	}
}

// A waiting caller whose context ends leaves the queue at once and makes room.
func TestCancelledWaiterLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 1, time.Now, perUnit)
		held := mustAcquire(t, a, 1)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { _, err := a.acquire(ctx, Claim{}, work{units: 1}); first <- err }()
		synctest.Wait()
		time.Sleep(3 * time.Second)
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if s := a.stats(); s.Waiting != 0 || s.InUse != 1 || s.Abandoned != 1 || s.WaitingTime != 3*time.Second {
			t.Errorf("stats: %+v", s)
		}
		second := make(chan *ticket)
		go func() { second <- mustAcquire(t, a, 1) }()
		synctest.Wait()
		a.release(held)
		a.release(<-second)
		checkEmpty(t, a)
	})
}

// If a slot is given to a caller at the moment when its context ends, the slot passes to the next in the queue.
func TestSlotGivenToCancelledWaiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 2, time.Now, perUnit)
		held := mustAcquire(t, a, 1)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { _, err := a.acquire(ctx, Claim{}, work{units: 1}); first <- err }()
		synctest.Wait()
		second := make(chan *ticket)
		go func() { second <- mustAcquire(t, a, 1) }()
		synctest.Wait()
		a.mu.Lock() // so that the waiter finds both when it can look
		cancel()
		a.free(held, a.now())
		a.mu.Unlock()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		a.release(<-second)
		checkEmpty(t, a)
	})
}

// If the work ahead took longer than foreseen, a caller that can no longer finish is turned away when its turn comes,
// and the next one gets the slot.
func TestLateAfterWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 2, time.Now, perUnit)
		held := mustAcquire(t, a, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		first := make(chan error)
		go func() { _, err := a.acquire(ctx, Claim{}, work{units: 20}); first <- err }()
		synctest.Wait()
		second := make(chan *ticket)
		go func() { second <- mustAcquire(t, a, 5) }()
		synctest.Wait()
		time.Sleep(40 * time.Millisecond)
		a.release(held)
		if err := <-first; !errors.Is(err, ErrOverloaded) {
			t.Errorf("10 ms before the deadline with 20 ms of work: %v", err)
		}
		a.release(<-second)
		checkEmpty(t, a)
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		running []uint64 // units, milliseconds each
		waiting int      // callers with 1,000 units each
		want    time.Duration
	}{
		{"little", []uint64{1, 1}, 0, time.Second},
		{"over a second", []uint64{1500, 1500}, 0, 2 * time.Second},
		{"shared among the slots", []uint64{4000, 0}, 0, 2 * time.Second},
		{"with a queue", []uint64{2000, 2000}, 6, 5 * time.Second},
		{"bounded", []uint64{1 << 20, 1 << 20}, 0, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission(len(test.running), test.waiting, time.Now, perUnit)
				var held []*ticket
				for _, units := range test.running {
					held = append(held, mustAcquire(t, a, units))
				}
				for range test.waiting {
					go func() { a.release(mustAcquire(t, a, 1000)) }()
				}
				synctest.Wait()
				_, err := a.acquire(t.Context(), Claim{}, work{units: 1})
				overloaded, ok := errors.AsType[*OverloadedError](err)
				if !ok || overloaded.RetryAfter != test.want {
					t.Errorf("%v, want %v", err, test.want)
				}
				for _, h := range held {
					a.release(h)
				}
				synctest.Wait()
				checkEmpty(t, a)
			})
		})
	}
}

// TestComeBackOneByOne: strangers that are turned away at the same time are told times that differ by the time of a hash,
// as long as the longest wait has room for them, and known clients are told the end of the work ahead.
func TestComeBackOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2, 0, time.Now, perUnit)
		first, second := mustAcquire(t, a, 4000), mustAcquire(t, a, 4000)
		told := func(by Claim) time.Duration {
			_, err := a.acquire(t.Context(), by, work{units: 1000})
			overloaded, ok := errors.AsType[*OverloadedError](err)
			if !ok {
				t.Fatalf("a full queue: %v", err)
			}
			return overloaded.RetryAfter
		}
		for i := range 53 { // from 4 s to 30 s, two in each second
			if got, want := told(Claim{}), 4*time.Second+time.Duration(i)*500*time.Millisecond; got != want {
				t.Fatalf("stranger %d: %v, want %v", i, got, want)
			}
			if got := told(Claim{Known: true}); got != 4*time.Second {
				t.Fatalf("a known client: %v", got)
			}
		}
		if got := told(Claim{}); got != 4*time.Second {
			t.Errorf("after the longest wait: %v, want the first time again", got)
		}
		time.Sleep(3 * time.Second)
		a.release(first)
		a.release(second)
		third, fourth := mustAcquire(t, a, 1), mustAcquire(t, a, 1)
		if got := told(Claim{}); got != 1500*time.Millisecond { // the last one was told 4 s, 3 s ago
			t.Errorf("later: %v, want the place behind the last one", got)
		}
		a.release(third)
		a.release(fourth)
		checkEmpty(t, a)
	})
}

// Running work counts for less as it progresses.
func TestEstimateCountsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 1, time.Now, perUnit)
		held := mustAcquire(t, a, 1000)
		try := func(units uint64) (*ticket, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
			defer cancel()
			return a.acquire(ctx, Claim{}, work{units: units})
		}
		if _, err := try(1); !errors.Is(err, ErrOverloaded) {
			t.Errorf("with 1,000 ms ahead: %v", err)
		}
		time.Sleep(300 * time.Millisecond)
		if _, err := try(201); !errors.Is(err, ErrOverloaded) {
			t.Errorf("with 700 ms ahead and 201 of its own: %v", err)
		}
		time.AfterFunc(700*time.Millisecond, func() { a.release(held) })
		next, err := try(200)
		if err != nil {
			t.Fatalf("with 700 ms ahead and 200 of its own: %v", err)
		}
		a.release(next)
		checkEmpty(t, a)
	})
}

// An estimate far too high would turn everyone away for ever. On an idle machine one call a second is tried
// nevertheless, and corrects it.
func TestProbeCorrectsTheEstimate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2, 2, time.Now, 1000*perUnit)
		try := func() (*ticket, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			return a.acquire(ctx, Claim{}, work{units: 10})
		}
		if _, err := try(); !errors.Is(err, ErrOverloaded) {
			t.Fatalf("right after a measurement: %v", err)
		}
		tries := 0
		for ; a.estimate(work{units: 10}) > 100*time.Millisecond && tries < 100; tries++ {
			time.Sleep(time.Second)
			held, err := try()
			if err != nil {
				t.Fatalf("idle for a second: %v", err)
			}
			if _, err := try(); !errors.Is(err, ErrOverloaded) {
				t.Fatalf("beside a probe: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
			a.measured(work{units: 10}, 10*time.Millisecond)
			a.release(held)
			if _, err := try(); tries == 0 && !errors.Is(err, ErrOverloaded) {
				t.Fatalf("right after a probe: %v", err)
			}
		}
		if tries > 20 {
			t.Errorf("a thousandfold estimate took %d probes to correct", tries)
		}
		held, err := try()
		if err != nil {
			t.Fatalf("corrected: %v", err)
		}
		a.release(held)
	})
}

// A probe is one call. There is none while other work runs, which will be measured anyway, and no second one within a
// second, even if the first measured nothing.
func TestProbeIsOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2, 2, time.Now, 1000*perUnit)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		held := mustAcquire(t, a, 10)
		time.Sleep(2 * time.Second)
		if _, err := a.acquire(ctx, Claim{}, work{units: 10}); !errors.Is(err, ErrOverloaded) {
			t.Errorf("beside running work: %v", err)
		}
		a.release(held)
		probe, err := a.acquire(ctx, Claim{}, work{units: 10})
		if err != nil {
			t.Fatalf("idle: %v", err)
		}
		a.release(probe)
		if _, err := a.acquire(ctx, Claim{}, work{units: 10}); !errors.Is(err, ErrOverloaded) {
			t.Errorf("right after a probe: %v", err)
		}
	})
}

func TestRunningAverage(t *testing.T) {
	t.Parallel()
	a := newAdmission(1, 1, time.Now, perUnit)
	a.measured(work{units: 10}, time.Hour) // the machine was asleep
	if a.paces[engineArgon2].rate > 1.3*perUnit {
		t.Errorf("one outlier changes the rate from %v to %v", perUnit, a.paces[engineArgon2].rate)
	}
	a.measured(work{units: 10}, -time.Hour) // the clock was set back
	if a.paces[engineArgon2].rate < perUnit {
		t.Errorf("a negative time lowers the rate to %v", a.paces[engineArgon2].rate)
	}
	for range 40 {
		a.measured(work{units: 10}, 50*time.Millisecond)
	}
	if got := a.paces[engineArgon2].rate / perUnit; got < 4.9 || got > 5.1 {
		t.Errorf("after 40 hashes at 5 ms per unit the rate is %v", got)
	}
	if got := a.stats(); got.Hashed != 42 || got.HashingTime != time.Hour+2*time.Second {
		t.Errorf("stats: %+v", got)
	}
}

// The same promises on real threads, for the race detector.
func TestAdmissionOnRealThreads(t *testing.T) {
	t.Parallel()
	a := newAdmission(3, 5, time.Now, 1000)
	var group sync.WaitGroup
	slots := make(chan struct{}, 3)
	for i := range 64 {
		group.Go(func() {
			for round := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+round)%3 == 0 {
					go cancel()
				}
				held, err := a.acquire(ctx, Claim{}, work{units: 1})
				if err == nil {
					select {
					case slots <- struct{}{}:
					default:
						t.Error("more callers than slots")
					}
					if s := a.stats(); s.Waiting > 5 || s.InUse > 3 {
						t.Errorf("stats: %+v", s)
					}
					<-slots
					a.release(held)
				}
				cancel()
			}
		})
	}
	group.Wait()
	checkEmpty(t, a)
}
