package authverify

import (
	"testing"
	"time"
	"unsafe"
)

// While a machine sleeps the monotonic clock stands still; the wall clock can be set in either direction.
// Whichever has moved further counts.
func TestElapsed(t *testing.T) {
	t.Parallel()
	from := time.Now()
	// There is no other way to a time whose two readings differ than its layout.
	slept := from.Add(time.Hour)
	(*struct {
		wall      uint64
		monotonic int64
		loc       *time.Location
	})(unsafe.Pointer(&slept)).monotonic -= int64(time.Hour)
	if slept.Sub(from) != 0 || slept.Round(0).Sub(from.Round(0)) != time.Hour {
		t.Fatal("the layout of time.Time is not what this test makes use of")
	}
	for name, c := range map[string]struct {
		from, to time.Time
		want     time.Duration
	}{
		"asleep":               {from, slept, time.Hour},
		"wall clock set back":  {slept, from.Add(time.Second), time.Second},
		"both":                 {from, from.Add(time.Second), time.Second},
		"wall clock alone":     {from.Round(0), from.Round(0).Add(time.Second), time.Second},
		"wall alone, set back": {from.Round(0), from.Round(0).Add(-time.Second), 0},
	} {
		if got := elapsed(c.from, c.to); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
