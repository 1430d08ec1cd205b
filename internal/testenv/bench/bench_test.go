package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// TestMain lets this program be an echo or the crowd, as in a run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{echoCommand, httpEchoCommand, crowdCommand}, os.Args[1]) {
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
	for _, want := range []string{"bare gRPC echo", "bare JSON echo", "latchkey, protobuf", "(bar 0.66)", "pure hash", "x/crypto", "latchkey", "RefreshToken, 16", "50 logins at once", "authverify", "binary MB", "20 watchers", "In short"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	chart := r.chart()
	if err := xml.Unmarshal(chart, &struct{}{}); err != nil {
		t.Errorf("the chart is no XML: %v\n%s", err, chart)
	}
	for _, want := range []string{"ValidateToken", "a whole Login", "50 logins at once"} {
		if !bytes.Contains(chart, []byte(want)) {
			t.Errorf("the chart lacks %q:\n%s", want, chart)
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
	for _, all := range [][]*series{read.ValidateToken, read.OverHTTP, read.Login, read.RefreshToken} {
		if len(all) == 0 {
			t.Fatalf("the JSON lacks a series:\n%s", text)
		}
		last := all[len(all)-1]
		if !strings.HasPrefix(last.Name, measured) || last.Median.PerSecond <= 0 || last.Ratio <= 0 || last.Median.Calls == nil || last.Median.Memory == 0 {
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

func TestMedians(t *testing.T) {
	t.Parallel()
	baseline := &series{Rounds: []round{{Result: benchkit.Result{PerSecond: 100, P99: 1}}, {Result: benchkit.Result{PerSecond: 50, P99: 2}}, {Result: benchkit.Result{PerSecond: 200, P99: 1}}}}
	s := &series{Rounds: []round{{Result: benchkit.Result{PerSecond: 80, P99: 2}}, {Result: benchkit.Result{PerSecond: 45, P99: 2}}, {Result: benchkit.Result{PerSecond: 100, P99: 3}}}}
	s.summarise(baseline)
	// The median of 0.8, 0.9 and 0.5, and not 80 of 100: a slow moment affects both of a round.
	if s.Ratio != .8 || s.P99 != 2 || s.Median.PerSecond != 80 {
		t.Errorf("%+v", s)
	}
	if m := benchkit.Median([]float64{4, 1, 3, 2}); m != 2.5 {
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
