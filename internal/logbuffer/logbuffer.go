// Package logbuffer writes log lines together: one write for the lines of a moment, instead of one for each line. A
// warning or an error takes all lines before it along at once.
package logbuffer

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Size is how many bytes wait at most, unless one line is longer. 64 KiB are some 250 lines of the access log.
const Size = 64 << 10

// Writer collects what is written to it, and passes it on when its delay is over, when Size bytes wait, and when it is
// flushed. If the process is killed, what waits is lost: at most Size bytes, and none that is older than the delay. It
// is safe for concurrent use.
type Writer struct {
	to    io.Writer
	delay time.Duration
	timer *time.Timer

	mu      sync.Mutex // also held while to is written, so that lines keep their order
	waiting []byte
	closed  bool
}

// New returns a writer. A delay of zero or less makes it pass everything on at once.
func New(to io.Writer, delay time.Duration) *Writer {
	w := &Writer{to: to, delay: delay, closed: delay <= 0}
	w.timer = time.AfterFunc(max(delay, time.Hour), w.Flush)
	w.timer.Stop()
	return w
}

// Write implements io.Writer. Later failures to write are lost: nobody could be told of them but this log.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.to.Write(line)
	}
	if len(w.waiting)+len(line) > Size {
		w.flush()
	}
	// The delay counts from the oldest line. While nothing is logged, no timer runs.
	if len(w.waiting) == 0 {
		w.timer.Reset(w.delay)
	}
	w.waiting = append(w.waiting, line...)
	return len(line), nil
}

// Flush passes on what waits.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
}

func (w *Writer) flush() {
	if len(w.waiting) > 0 {
		_, _ = w.to.Write(w.waiting)
		w.waiting = w.waiting[:0]
	}
}

// Close passes on what waits. Everything that is written later is passed on at once.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.timer.Stop()
	w.flush()
}

// Handler returns inner, whose lines go to w, so that it flushes w after each warning and each error.
func (w *Writer) Handler(inner slog.Handler) slog.Handler { return handler{inner, w} }

type handler struct {
	slog.Handler
	w *Writer
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, record slog.Record) error {
	err := h.Handler.Handle(ctx, record)
	if record.Level >= slog.LevelWarn {
		h.w.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.w}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.w}
}
