package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// TestMain lets this program be the echo, as in a run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == echoCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestRun makes a whole run, too short for meaningful figures.
func TestRun(t *testing.T) {
	t.Parallel()
	if _, err := devstack.FindRedis(); err != nil {
		t.Skip("needs a real Redis: ", err)
	}
	binary := filepath.Join(t.TempDir(), "latchkey")
	// With the same flags as the other packages: with those of a release the compiler would build everything anew, for
	// a minute.
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/latchkey-auth/latchkey/cmd/latchkey")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	jsonFile := filepath.Join(t.TempDir(), "bench.json")
	// With 300 ms there was no answer to a login beside the tests of all packages.
	r, err := measure(t.Context(), options{latchkey: binary, rounds: 1, window: time.Second, idle: 100 * time.Millisecond, watchers: 20, crowd: 50})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := errors.Join(r.print(&table), writeJSON(jsonFile, r)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bare gRPC echo", "pure hash", "x/crypto", "latchkey", "RefreshToken, 16", "50 logins at once", "authverify", "binary MB", "20 watchers"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	text, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var read report
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, all := range [][]*series{read.ValidateToken, read.Login, read.RefreshToken} {
		if len(all) == 0 {
			t.Fatalf("the JSON lacks a series:\n%s", text)
		}
		last := all[len(all)-1]
		if last.Name != measured || last.Median.PerSecond <= 0 || last.Ratio <= 0 || last.Median.Calls == nil || last.Median.Memory == 0 {
			t.Errorf("the JSON lacks figures:\n%s", text)
		}
	}
	if len(read.Overload) != 1 || len(read.Alone) != 1 || read.Verify == nil {
		t.Fatalf("the JSON lacks a part:\n%s", text)
	}
	if v := read.Overload[0]; v.OK+v.Overloaded+v.Late+v.Unavailable+v.Other != 50 || v.OK == 0 || v.Peak == 0 || v.Busy.P99 <= 0 {
		t.Errorf("an overload: %+v", v)
	}
	if a := read.Alone[0]; a.StartMillis <= 0 || a.Idle == 0 || a.Binary == 0 || read.Verify.Nanos <= 0 {
		t.Errorf("alone: %+v, authverify: %+v", a, read.Verify)
	}
}

// TestReleaseFlags: the measured binary is built like a release.
func TestReleaseFlags(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range append(releaseFlags(), "CGO_ENABLED=0") {
		flag = strings.TrimSuffix(flag, "bench") // the version
		if !strings.Contains(string(text), flag) {
			t.Errorf("the Dockerfile does not build with %q", flag)
		}
	}
}

func TestClosedLoop(t *testing.T) {
	t.Parallel()
	var marks, calls atomic.Int64
	r, err := closedLoop(t.Context(), 3, 200*time.Millisecond, func(ctx context.Context, _ int) error {
		calls.Add(1)
		return pause(ctx, 5*time.Millisecond)
	}, func() error { marks.Add(1); return nil })
	if err != nil || marks.Load() != 2 {
		t.Fatalf("%d marks, %v", marks.Load(), err)
	}
	if r.Requests == 0 || int64(r.Requests) >= calls.Load() || r.P50 < 5 || r.P99 < r.P50 {
		t.Errorf("%+v of %d calls", r, calls.Load())
	}
	errRefused := errors.New("refused")
	_, err = closedLoop(t.Context(), 3, time.Hour, func(context.Context, int) error { return errRefused }, func() error { return nil })
	if !errors.Is(err, errRefused) {
		t.Errorf("a failed call gives %v", err)
	}
}

func TestMedians(t *testing.T) {
	t.Parallel()
	baseline := &series{Rounds: []round{{result: result{PerSecond: 100, P99: 1}}, {result: result{PerSecond: 50, P99: 2}}, {result: result{PerSecond: 200, P99: 1}}}}
	s := &series{Rounds: []round{{result: result{PerSecond: 80, P99: 2}}, {result: result{PerSecond: 45, P99: 2}}, {result: result{PerSecond: 100, P99: 3}}}}
	s.summarise(baseline)
	// The median of 0.8, 0.9 and 0.5, and not 80 of 100: a slow moment affects both of a round.
	if s.Ratio != .8 || s.P99 != 2 || s.Median.PerSecond != 80 {
		t.Errorf("%+v", s)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-window", "1ms"}, {"-no-such"}, {"more"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); !errors.As(err, new(*usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
