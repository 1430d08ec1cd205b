package password

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// most is the most work of a caller here, in milliseconds.
const most = 30

// flood makes callers of each claim ask for slots without an end, each of them at once. They start again 1 ms after
// they were served and 20 ms after they were refused.
func flood(ctx context.Context, a *admission, claims []Claim, each int, units uint64) *sync.WaitGroup {
	var group sync.WaitGroup
	for _, by := range claims {
		for range each {
			group.Go(func() {
				for ctx.Err() == nil {
					held, err := a.acquire(ctx, by, work{units: units})
					if err != nil {
						time.Sleep(20 * time.Millisecond)
						continue
					}
					time.Sleep(time.Duration(units) * time.Millisecond)
					a.release(held)
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
	return &group
}

// served makes calls one after the other and fails at the first that is not served within the time.
func served(a *admission, by Claim, calls int, units uint64, within time.Duration) error {
	for i := range calls {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		held, err := a.acquire(ctx, by, work{units: units})
		cancel()
		if err != nil {
			return fmt.Errorf("call %d: %w", i, err)
		}
		time.Sleep(time.Duration(units) * time.Millisecond)
		a.release(held)
		time.Sleep(time.Millisecond)
	}
	return nil
}

// A known client waits for one running hash, for strangers to get as much time as it had itself before, and for one
// more hash. That holds for any number of strangers from anywhere, also with one slot and one place.
func TestKnownClientAmongStrangers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 4).Draw(rt, "slots"), rapid.IntRange(1, 64).Draw(rt, "queue")
		networks, each := rapid.IntRange(1, 40).Draw(rt, "networks"), rapid.IntRange(1, 4).Draw(rt, "each")
		theirs, ours := rapid.Uint64Range(1, most).Draw(rt, "theirs"), rapid.Uint64Range(1, most).Draw(rt, "ours")
		var strangers []Claim
		for i := range networks {
			strangers = append(strangers, Claim{Network: strconv.Itoa(i)})
		}
		known := Claim{Network: rapid.SampledFrom([]string{"0", "another"}).Draw(rt, "network"), Known: true}
		synctest.Test(t, func(*testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			a := newAdmission(slots, queue, time.Now, perUnit)
			group := flood(ctx, a, strangers, each, theirs)
			time.Sleep(100 * time.Millisecond)
			within := time.Duration(2*theirs+2*ours) * time.Millisecond
			if err := served(a, known, 8, ours, within); err != nil {
				rt.Errorf("not within %v: %v", within, err)
			}
			cancel()
			group.Wait()
		})
	})
}

// If known clients are many too, strangers keep half of the time.
func TestStrangersAmongKnownClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAdmission(1, 8, time.Now, perUnit)
		group := flood(ctx, a, []Claim{{Network: "a", Known: true}, {Network: "b", Known: true}}, 10, 10)
		time.Sleep(100 * time.Millisecond)
		if err := served(a, Claim{}, 20, 5, 35*time.Millisecond); err != nil {
			t.Error(err)
		}
		cancel()
		group.Wait()
	})
}

// A stranger from a network that sends little waits for one hash of each other network, however much they send. A
// stranger from a busy network waits also for one hash of each other address there.
func TestFewCallsAmongMany(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		networks, addresses := rapid.IntRange(1, 4).Draw(rt, "networks"), rapid.IntRange(1, 3).Draw(rt, "addresses")
		each, units := rapid.IntRange(3, 8).Draw(rt, "each"), rapid.Uint64Range(1, most).Draw(rt, "units")
		var attack []Claim
		for i := range networks {
			for k := range addresses {
				attack = append(attack, Claim{Network: strconv.Itoa(i), Address: strconv.Itoa(k)})
			}
		}
		for name, honest := range map[string]struct {
			by    Claim
			turns int
		}{
			"network of its own":    {Claim{Network: "own"}, networks},
			"network of the attack": {Claim{Network: "0", Address: "own"}, networks * (addresses + 1)},
		} {
			synctest.Test(t, func(*testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				a := newAdmission(1, 24, time.Now, perUnit)
				group := flood(ctx, a, attack, each, units)
				time.Sleep(100 * time.Millisecond)
				within := time.Duration(units) * time.Duration(honest.turns+2) * time.Millisecond
				if err := served(a, honest.by, 3, units, within); err != nil {
					rt.Errorf("%s, %d and %d: not within %v: %v", name, networks, addresses, within, err)
				}
				cancel()
				group.Wait()
			})
		}
	})
}

// A caller that must leave a full queue gets its answer at once, and the same one that a newcomer would get.
func TestCrowdedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 2, time.Now, perUnit)
		held := mustAcquire(t, a, 5000)
		refused := make(chan error, 2)
		for range 2 {
			go func() {
				waited, err := a.acquire(t.Context(), Claim{Network: "crowd"}, work{units: 1})
				refused <- err
				if err == nil {
					a.release(waited)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		go func() { _ = served(a, Claim{Network: "another"}, 1, 1, time.Minute) }()
		overloaded, ok := errors.AsType[*OverloadedError](<-refused)
		if !ok || overloaded.RetryAfter != 5*time.Second {
			t.Errorf("crowded out: %v", overloaded)
		}
		if s := a.stats(); s.Waiting != 2 || s.TurnedAway != 1 || s.KnownTurnedAway != 0 || s.WaitingTime != time.Second {
			t.Errorf("stats: %+v", s)
		}
		a.release(held)
		if err := <-refused; err != nil {
			t.Errorf("the one that stayed: %v", err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		checkEmpty(t, a)
	})
}

// 2,000 strangers ask for hashes without an end. Whether all of them wait or they are more than the queue has room for,
// a known client's logins are answered.
func TestKnownLoginsWhileStrangersQueue(t *testing.T) {
	t.Parallel()
	for _, queue := range []int{64, 2000} {
		t.Run(strconv.Itoa(queue), func(t *testing.T) {
			t.Parallel()
			h := newHasher(t, Config{Slots: 1, Queue: queue, Params: Params{MemoryKiB: 1024, Time: 1, Threads: 1}})
			stored, err := h.Hash(t.Context(), Claim{}, "password")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			var asked atomic.Int64
			for i := range 2000 {
				group.Go(func() {
					by := Claim{Network: strconv.Itoa(i / 4), Address: strconv.Itoa(i)}
					for ctx.Err() == nil {
						err := h.VerifyUnknown(ctx, by, strconv.Itoa(i), "guess")
						asked.Add(1)
						if errors.Is(err, ErrOverloaded) {
							select { // as an impatient client does
							case <-ctx.Done():
							case <-time.After(100 * time.Millisecond):
							}
						}
					}
				})
			}
			for h.Stats().Waiting < queue-1 { // one of them has the slot
				time.Sleep(time.Millisecond)
			}
			answered := 0
			for range 100 {
				login, done := context.WithTimeout(t.Context(), 5*time.Second)
				result, err := h.Verify(login, Claim{Network: "0", Known: true}, stored, "password")
				done()
				if err == nil && result.Match {
					answered++
				}
			}
			cancel()
			group.Wait()
			if s := h.Stats(); answered < 99 || s.InUse != 0 || s.Waiting != 0 {
				t.Errorf("%d of 100 answered while strangers asked %d times; stats: %+v", answered, asked.Load(), s)
			}
		})
	}
}

// BenchmarkFullQueue measures the cost of a full queue: to turn a call away, or to admit it in another's place, with as
// many networks as places.
func BenchmarkFullQueue(b *testing.B) {
	for _, queue := range []int{64, 10_000} {
		for _, networks := range []int{queue - 1, 1} {
			b.Run(fmt.Sprintf("%d places, %d networks", queue, networks), func(b *testing.B) {
				a := newAdmission(2, queue, time.Now, float64(22*time.Millisecond))
				now := time.Now()
				for range a.slots {
					a.start(&ticket{work: work{units: 1}}, now)
				}
				for i := range queue {
					a.waiting.add(&ticket{by: Claim{Network: strconv.Itoa(i % networks)}, work: work{units: 1}, ready: make(chan struct{})})
				}
				for i := 0; b.Loop(); i++ {
					t := &ticket{by: Claim{Network: strconv.Itoa(i)}, work: work{units: 1}, deadline: time.Now().Add(10 * time.Second), ready: make(chan struct{})}
					if wait, _ := a.enter(t); wait {
						a.waiting.remove(t)
						a.waiting.add(&ticket{by: Claim{Network: "0"}, work: work{units: 1}, ready: make(chan struct{})})
					}
				}
			})
		}
	}
}
