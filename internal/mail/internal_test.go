package mail

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/jobs"
)

func TestWaits(t *testing.T) {
	t.Parallel()
	var sum time.Duration
	for _, wait := range defaultWaits() {
		sum += wait
	}
	if sum != 30*time.Minute {
		t.Errorf("a reset mail is given up on after %v", sum)
	}
	d := &delivery{waits: []time.Duration{time.Minute, 2 * time.Minute}}
	for attempt, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 3: time.Hour, 9: time.Hour} {
		before := time.Now()
		got := d.nextRetry(attempt)
		if got.Before(before.Add(want)) || got.After(time.Now().Add(want)) {
			t.Errorf("attempt %d: in %v, want %v", attempt, got.Sub(before), want)
		}
	}
	if jobs.Timeout <= defaultTimeout || jobs.RescueAfter <= jobs.Timeout {
		t.Error("a delivery must end before its attempt, and the attempt before its rescue")
	}
}

func TestSpell(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 59 * time.Second: "59 seconds", time.Minute: "1 minute", 119 * time.Second: "1 minute",
		30 * time.Minute: "30 minutes", time.Hour: "1 hour", time.Hour + 59*time.Second: "1 hour", 90 * time.Minute: "1 hour and 30 minutes",
		2*time.Hour + time.Minute: "2 hours and 1 minute", 24 * time.Hour: "24 hours", 48 * time.Hour: "2 days", 71 * time.Hour: "2 days",
	} {
		if got := spell(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// Rows that an earlier release inserted must find their worker.
func TestKinds(t *testing.T) {
	t.Parallel()
	if (requestArgs{}).Kind() != "password_reset" || (linkArgs{}).Kind() != "reset_link" || (noticeArgs{}).Kind() != "notice" || (changedArgs{}).Kind() != "password_changed" {
		t.Error("a job kind changed")
	}
}

// TestTemplateTypes: templates reach methods of these types only. The shipped binary finds no methods of others by name:
// who adds a type to view adds it to templateTypes of internal/release too.
func TestTemplateTypes(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if typ.NumMethod() > 0 && typ.Kind() != reflect.Interface {
			found[typ.String()] = true
		}
		for m := range typ.Methods() {
			method := m.Type
			switch { // what templates can call: one result, or one and an error
			case method.NumOut() == 1, method.NumOut() == 2 && method.Out(1) == reflect.TypeFor[error]():
				walk(method.Out(0))
			}
		}
		switch typ.Kind() {
		case reflect.Struct:
			for field := range typ.Fields() {
				if field.IsExported() {
					walk(field.Type)
				}
			}
		case reflect.Slice, reflect.Array, reflect.Map, reflect.Pointer:
			walk(typ.Elem())
		default:
		}
	}
	walk(reflect.TypeFor[view]())
	walk(reflect.TypeFor[htmlView]())
	got := slices.Sorted(maps.Keys(found))
	if want := []string{"*time.Location", "time.Duration", "time.Month", "time.Time", "time.Weekday"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
