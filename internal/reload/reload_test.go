package reload

import (
	"errors"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	gate := &Gate{Interval: time.Second}
	join := func(after time.Duration, wantNew bool) *Attempt {
		t.Helper()
		a, isNew := gate.Join(start.Add(after))
		if isNew != wantNew {
			t.Errorf("after %v: new %v, want %v", after, isNew, wantNew)
		}
		return a
	}
	first := join(0, true)
	if join(time.Hour, false) != first || gate.Begin(start) != first {
		t.Error("a reading that has not ended is not shared")
	}
	failed := errors.New("no answer")
	if gate.LastErr() != nil {
		t.Error("an error before the end")
	}
	first.End(failed)
	<-first.Done()
	if join(999*time.Millisecond, false) != first || !errors.Is(first.Err(), failed) || !errors.Is(gate.LastErr(), failed) {
		t.Error("within the interval the answer is not that of the last reading")
	}
	second := join(time.Second, true)
	if second == first {
		t.Error("the same reading after the interval")
	}
	if gate.Begin(start.Add(time.Second)) != second {
		t.Error("what was asked for is not what begins")
	}
	second.End(nil)
	// A clock that was set back by an hour does not delay the next one.
	third := join(-time.Hour, true)
	if third == second {
		t.Error("held up by the clock")
	}
}

// A read that started before a change does not answer callers after it.
func TestRenew(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	gate := &Gate{Interval: time.Second}
	if !gate.Renew(now) || gate.Renew(now) {
		t.Error("one that has not begun is replaced")
	}
	old := gate.Begin(now)
	if !gate.Renew(now) {
		t.Error("one that has begun is kept")
	}
	waited, isNew := gate.Join(now)
	if isNew || waited == old {
		t.Error("whoever joins waits for the reading before the change")
	}
	if gate.Begin(now) != waited || gate.Begin(now) == waited {
		t.Error("what begins is not what was asked for, or begins twice")
	}
}
