//go:build linux

package history

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestShortHistory is short enough for every run of the tests. `task test:history` runs the long one, and the tests of
// this test.
func TestShortHistory(t *testing.T) {
	t.Parallel()
	const calls, lease = 3000, 500 * time.Millisecond
	program := build(t, "")
	w := newWorld(t, settings{lease: lease, hash: cheapHash()}, program, program)
	f := faults{w, lease}
	runHistory(t, w, calls, func(ctx, _ context.Context) {
		b := w.replicas[1]
		for _, disturb := range []func(){
			func() { f.shortFreeze(ctx, t, b) },
			func() { f.cutListen(ctx, t) },
			func() { f.longFreeze(ctx, t, b) },
			func() { f.flush(ctx, t) },
		} {
			pause(ctx, lease/2)
			disturb()
		}
	})
}

// runHistory lets clients make calls while disturb causes faults, and checks the answers. The second context of disturb
// ends when there were enough calls.
func runHistory(t *testing.T, w *world, calls int64, disturb func(ctx, enough context.Context)) {
	t.Helper()
	const limit = 10 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := &load{w: w, target: calls}
	began := time.Now()
	enough, reached := context.WithCancel(ctx)
	defer reached()
	loaded := make(chan error, 1)
	go func() { loaded <- l.run(ctx, reached) }()
	disturb(ctx, enough)
	l.disturbed.Store(true)
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if answered := l.answered.Load(); answered < calls {
		t.Errorf("%d calls were answered within %s, not %d", answered, limit, calls)
	}
	found := w.violations()
	for _, v := range found[:min(len(found), 3)] {
		t.Error(v)
	}
	for _, alarm := range w.alarms[:min(len(w.alarms), 10)] {
		t.Error("an answer that no fault here explains:", alarm)
	}
	t.Logf("%s, checked in %s; violations: %d", w.figures(took), (time.Since(began) - took).Round(time.Millisecond), len(found))
}

// figures counts the calls by kind and answer.
func (w *world) figures(took time.Duration) string {
	kinds := map[kind]map[answer]int{}
	answered, without := 0, 0
	for _, c := range w.calls {
		if kinds[c.Kind] == nil {
			kinds[c.Kind] = map[answer]int{}
		}
		kinds[c.Kind][c.Answer]++
		if c.Answer == unknown {
			without++
		} else if c.Kind != signUp {
			answered++
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d calls answered (and %d not) in %.1f s", answered, without, took.Seconds())
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		var counts []string
		for _, a := range slices.Sorted(maps.Keys(kinds[k])) {
			counts = append(counts, fmt.Sprintf("%d %s", kinds[k][a], a))
		}
		fmt.Fprintf(&text, "; %s: %s", k, strings.Join(counts, ", "))
	}
	return text.String()
}
