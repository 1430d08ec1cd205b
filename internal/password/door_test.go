package password

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func testDoor(slots, queue int) *Hasher {
	return &Hasher{params: Params{MemoryKiB: 64, Time: 1, Threads: 1}, admission: newAdmission(slots, queue, time.Now, perUnit)}
}

// A network with many calls on their way must make room for another network, but not that one for it.
func TestDoorMakesRoom(t *testing.T) {
	t.Parallel()
	h := testDoor(1, 2)
	crowd, other := Claim{Network: "crowd"}, Claim{Network: "another"}
	var visits []*Visit
	for range 3 {
		visit, err := h.Enter(crowd)
		if err != nil {
			t.Fatal(err)
		}
		visits = append(visits, visit)
	}
	_, err := h.Enter(crowd)
	overloaded, ok := errors.AsType[*OverloadedError](err)
	if !ok || overloaded.RetryAfter != time.Second {
		t.Errorf("a fourth call: %v", err)
	}
	visit, err := h.Enter(other)
	if err != nil {
		t.Fatalf("another network: %v", err)
	}
	if err := visits[2].Arrive(); !errors.Is(err, ErrOverloaded) {
		t.Errorf("the last call of the crowd: %v", err)
	}
	for _, stays := range []*Visit{visit, visits[0], visits[1]} {
		if err := stays.Arrive(); err != nil {
			t.Error(err)
		}
	}
	if s := h.Stats(); s.TurnedAway != 2 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	var none *Visit
	none.Leave()
	if err := none.Arrive(); err != nil {
		t.Error(err)
	}
}

// Whatever comes and goes, the bound holds, a call is refused only when it is reached, and never one of a network that
// has fewer calls on their way than another one of its class.
func TestDoorIsFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 3).Draw(rt, "slots"), rapid.IntRange(0, 6).Draw(rt, "queue")
		h := testDoor(slots, queue)
		type call struct {
			visit *Visit
			by    Claim
		}
		var inside []call
		count := func(network string) int {
			n := 0
			for _, c := range inside {
				if c.by.Network == network {
					n++
				}
			}
			return n
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if len(inside) > 0 && rapid.IntRange(0, 3).Draw(rt, "leave") == 0 {
				i := rapid.IntRange(0, len(inside)-1).Draw(rt, "who")
				inside[i].visit.Leave()
				inside = slices.Delete(inside, i, i+1)
				continue
			}
			by := Claim{Network: string(rune('A' + rapid.IntRange(0, 3).Draw(rt, "network")))}
			full := len(inside) == slots+queue
			visit, err := h.Enter(by)
			if err == nil {
				inside = append(inside, call{visit, by})
			}
			gone := slices.IndexFunc(inside, func(c call) bool { return c.visit.ticket.refused != nil })
			switch {
			case !full && (err != nil || gone >= 0):
				rt.Fatalf("refused with %d of %d inside: %v", len(inside), slots+queue, err)
			case full && (err != nil) == (gone >= 0):
				rt.Fatalf("a full house: %v, and %d left", err, gone)
			case gone >= 0:
				from := inside[gone].by.Network
				if n := count(from); n < count(by.Network) || from == by.Network {
					rt.Fatalf("%s with %d calls made room for %s with %d", from, n, by.Network, count(by.Network))
				}
				if err := inside[gone].visit.Arrive(); !errors.Is(err, ErrOverloaded) {
					rt.Fatalf("it hears %v", err)
				}
				inside = slices.Delete(inside, gone, gone+1)
			case err != nil:
				for _, c := range inside {
					if count(c.by.Network) > count(by.Network)+1 {
						rt.Fatalf("%s is refused with %d calls, and %s has %d", by.Network, count(by.Network), c.by.Network, count(c.by.Network))
					}
				}
			}
		}
		for _, c := range inside {
			c.visit.Leave()
		}
		if n := h.admission.coming.size(); n != 0 {
			rt.Fatalf("%d are inside at the end", n)
		}
	})
}
