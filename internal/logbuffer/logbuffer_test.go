package logbuffer_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-auth/latchkey/internal/logbuffer"
)

const delay = 100 * time.Millisecond

// sink counts the writes.
type sink struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.text.Write(p)
}

// want checks how many lines have arrived, in how many writes.
func (s *sink) want(t *testing.T, lines, writes int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Count(s.text.String(), "\n"); got != lines || s.writes != writes {
		t.Errorf("%d lines in %d writes, want %d in %d", got, s.writes, lines, writes)
	}
}

func open(delay time.Duration) (*sink, *logbuffer.Writer, *slog.Logger) {
	s := &sink{}
	w := logbuffer.New(s, delay)
	return s, w, slog.New(w.Handler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// No line waits longer than the delay, which counts from the oldest one. Time is synctest's.
func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w, log := open(delay)
		defer w.Close()
		for round := range 3 {
			log.Info("first")
			time.Sleep(delay - time.Nanosecond)
			log.Debug("second")
			synctest.Wait()
			s.want(t, 2*round, round)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			s.want(t, 2*round+2, round+1)
			time.Sleep(time.Hour) // nothing is logged, nothing is written
		}
	})
}

// A warning and an error take along what waits, in order, also through loggers with attributes and groups.
func TestWarningsDoNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w, log := open(delay)
		defer w.Close()
		log.Info("1")
		log.With("a", 1).Warn("2")
		s.want(t, 2, 1)
		log.Info("3")
		log.WithGroup("g").Error("4")
		s.want(t, 4, 2)
		var order []string
		for line := range strings.Lines(s.text.String()) {
			order = append(order, line[strings.Index(line, `"msg":"`)+7:][:1])
		}
		if strings.Join(order, "") != "1234" {
			t.Errorf("the order is %v", order)
		}
	})
}

// Close writes what waits. Lines that come later are written at once.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w, log := open(delay)
		log.Info("before")
		w.Close()
		s.want(t, 1, 1)
		log.Info("after")
		s.want(t, 2, 2)
		w.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		s.want(t, 2, 2)
	})
}

func TestNoDelay(t *testing.T) {
	t.Parallel()
	s, w, log := open(0)
	defer w.Close()
	log.Info("one")
	log.Debug("two")
	s.want(t, 2, 2)
}

// What waits is bounded, and a longer line is written whole.
func TestSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w, _ := open(delay)
		defer w.Close()
		line := []byte(strings.Repeat("x", logbuffer.Size/4-1) + "\n")
		for range 4 {
			_, _ = w.Write(line)
		}
		s.want(t, 0, 0)
		_, _ = w.Write(line)
		s.want(t, 4, 1)
		_, _ = w.Write([]byte(strings.Repeat("y", 2*logbuffer.Size) + "\n"))
		s.want(t, 5, 2)
		w.Flush()
		s.want(t, 6, 3)
	})
}

// Callers may use a line again, and lines of many callers arrive whole.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	s, w, log := open(time.Microsecond)
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for i := range 500 {
				log.Info("line", "caller", caller, "i", i)
			}
		})
	}
	callers.Wait()
	w.Close()
	if n := strings.Count(s.text.String(), "\n"); n != 4000 {
		t.Fatalf("%d lines", n)
	}
	for line := range strings.Lines(s.text.String()) {
		if !strings.HasPrefix(line, `{"time":`) || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("not whole: %q", line)
		}
	}
}
