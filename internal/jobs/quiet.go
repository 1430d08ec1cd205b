package jobs

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// quietHandler passes on what the job queue has to say from warnings upwards, and of its attributes those
// that are known to describe a job rather than hold it: arguments have addresses in them, and panic values
// may be a whole mail.
type quietHandler struct {
	next slog.Handler
	mute *atomic.Bool // nothing more is to be said
}

// Enabled drops the queue's reports of ordinary work.
func (h *quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && !h.mute.Load() && h.next.Enabled(ctx, level)
}

// Handle copies the record with the harmless attributes.
func (h *quietHandler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, "jobs: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if harmless(a.Key) {
			out.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, out)
}

// WithAttrs keeps the harmless ones.
func (h *quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if harmless(a.Key) {
			kept = append(kept, a)
		}
	}
	return &quietHandler{next: h.next.WithAttrs(kept), mute: h.mute}
}

// WithGroup passes the group on.
func (h *quietHandler) WithGroup(name string) slog.Handler {
	return &quietHandler{next: h.next.WithGroup(name), mute: h.mute}
}

// harmless is an allow list, so that what a new version logs is dropped first. Error texts are fine: the
// workers return this package's words, and pgx prints the message and code of a database error, not the row
// in its detail.
func harmless(key string) bool {
	switch key {
	case "attempt", "client_id", "duration", "err", "error", "job_id", "job_kind", "kind",
		"num_errors", "queue", "sleep_duration", "timeout":
		return true
	}
	return false
}
