package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestProgressInTheLog: without a terminal there is a line every few seconds with the rate and the time left.
func TestProgressInTheLog(t *testing.T) {
	t.Parallel()
	var out, logged bytes.Buffer
	p := newProgress(&out, false, slog.New(slog.NewJSONHandler(&logged, nil)), 0, "users")
	now := p.start
	p.now = func() time.Time { return now }
	p.Set(1000)
	if logged.Len() > 0 {
		t.Errorf("told at once: %s", logged.String())
	}
	now = now.Add(5 * time.Second)
	p.SetTotal(10_000)
	p.Add(1000)
	p.Add(1) // the next line is 5 s later
	p.Done()
	var line struct {
		What      string
		Done      int
		Total     int
		PerSecond int `json:"per_second"`
		Left      string
	}
	if err := json.Unmarshal(logged.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, logged.String())
	}
	if line.What != "users" || line.Done != 2000 || line.Total != 10_000 || line.PerSecond != 400 || line.Left != "20s" {
		t.Errorf("%+v", line)
	}
	p.Line("line 3: refused")
	if out.String() != "line 3: refused\n" {
		t.Errorf("beside the log: %q", out.String())
	}
}

// TestProgressBar: the bar does not end if a count exceeds a total that was estimated too low, or if lines are written
// above it.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	var out, logged bytes.Buffer
	for _, total := range []int64{0, 10} {
		out.Reset()
		p := newProgress(&out, true, slog.New(slog.NewJSONHandler(&logged, nil)), total, "users")
		p.Set(5)
		p.Add(7)
		p.Line("line 3: refused")
		p.SetTotal(20)
		time.Sleep(2 * barEvery) // the bar draws by the machine's clock
		p.Set(15)
		if !strings.Contains(out.String(), "15/20") {
			t.Errorf("total %d: %q", total, out.String())
		}
		p.SetTotal(15)
		p.Done()
		if !strings.Contains(out.String(), "line 3: refused\n") || !strings.HasSuffix(out.String(), "\n") || !strings.Contains(out.String(), "100%") {
			t.Errorf("total %d: %q", total, out.String())
		}
	}
	if logged.Len() > 0 {
		t.Errorf("a bar and a log: %s", logged.String())
	}
}
