package server

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// floodEvery is how often the log says how many lines were left out.
	floodEvery = time.Second
	// accessLine is the message of the access log.
	accessLine = "rpc"
)

// Log is a log that limits lines of one kind. Use NewLog.
type Log struct {
	// Bounded is for all lines except the access log.
	Bounded *slog.Logger

	all   *slog.Logger // for the access log, and for the lines about a flood
	flood *flood
}

// NewLog returns a log that writes at most lines lines of one kind in a second, and counts the rest. Zero: it writes
// all.
func NewLog(to *slog.Logger, lines int, now func() time.Time) *Log {
	f := newFlood(lines, now)
	return &Log{Bounded: slog.New(f.handler(to.Handler())), all: to, flood: f}
}

// flood limits the log lines of one kind in a second. Somebody who calls as fast as they can must not fill the disk,
// and the log must not cost more than the calls. Lines that are left out are counted in a line of their own. The
// metrics count every call.
type flood struct {
	most int64 // 0: write all
	now  func() time.Time

	kinds atomic.Pointer[map[kind]*tally] // replaced, never changed
	mu    sync.Mutex                      // held to replace it
}

// kind says which lines are alike. There are as many kinds as messages, methods and codes. Interceptors see only
// registered methods, so strangers cannot add kinds.
type kind struct {
	message, method string
	code            codes.Code
}

// tally counts the lines of a kind in one second. With parallel calls it is not exact.
type tally struct{ second, written, left atomic.Int64 }

func newFlood(most int, now func() time.Time) *flood {
	f := &flood{most: int64(most), now: now}
	f.kinds.Store(&map[kind]*tally{})
	return f
}

// allows returns whether to write a line now.
func (f *flood) allows(k kind, now time.Time) bool {
	if f.most == 0 {
		return true
	}
	t := (*f.kinds.Load())[k]
	if t == nil {
		t = f.add(k)
	}
	second := now.Unix()
	if seen := t.second.Load(); seen != second && t.second.CompareAndSwap(seen, second) {
		t.written.Store(0)
	}
	if t.written.Add(1) <= f.most {
		return true
	}
	t.left.Add(1)
	return false
}

func (f *flood) add(k kind) *tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := *f.kinds.Load()
	if t := known[k]; t != nil {
		return t
	}
	more := maps.Clone(known)
	t := &tally{}
	more[k] = t
	f.kinds.Store(&more)
	return t
}

// tell writes how many lines were left out since the last time.
func (f *flood) tell(ctx context.Context, log *slog.Logger) {
	for k, t := range *f.kinds.Load() {
		n := t.left.Swap(0)
		if n == 0 {
			continue
		}
		attrs := []slog.Attr{slog.String("of", k.message), slog.Int64("count", n)}
		if k.method != "" {
			attrs = append(attrs, slog.String("method", k.method))
		}
		if k.message == accessLine {
			attrs = append(attrs, slog.String("code", k.code.String()))
		}
		log.LogAttrs(ctx, slog.LevelInfo, "lines left out", attrs...)
	}
}

// run calls tell again and again until ctx ends.
func (f *flood) run(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(floodEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.tell(ctx, log)
		}
	}
}

// handler limits the lines that are logged through it, by message and method. They are not part of the access log.
func (f *flood) handler(inner slog.Handler) slog.Handler { return floodHandler{inner, f} }

type floodHandler struct {
	slog.Handler
	flood *flood
}

// Handle implements slog.Handler.
func (h floodHandler) Handle(ctx context.Context, record slog.Record) error {
	k := kind{message: record.Message}
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "method" {
			k.method = a.Value.String()
		}
		return k.method == ""
	})
	if !h.flood.allows(k, h.flood.now()) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h floodHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return floodHandler{h.Handler.WithAttrs(attrs), h.flood}
}

// WithGroup implements slog.Handler.
func (h floodHandler) WithGroup(name string) slog.Handler {
	return floodHandler{h.Handler.WithGroup(name), h.flood}
}
