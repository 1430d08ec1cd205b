package jobs

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// quietHandler passes on warnings and errors of the job queue, with only those attributes that are known to be
// harmless. Arguments of jobs have addresses in them, and the value of a panic may be a whole mail.
type quietHandler struct {
	next slog.Handler
	mute *atomic.Bool // drop everything
}

// Enabled drops the queue's reports of ordinary work.
func (h *quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && !h.mute.Load() && h.next.Enabled(ctx, level)
}

// Handle passes on the record with its harmless attributes.
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

// WithAttrs keeps the harmless attributes.
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

// harmless is an allow list, so that attributes which a new version of River adds are dropped. Error texts are
// harmless: the workers return errors with the words of this repository, and pgx prints the message and the code of a
// database error, not the detail, which has the row.
func harmless(key string) bool {
	switch key {
	case "attempt", "client_id", "duration", "err", "error", "job_id", "job_kind", "kind",
		"num_errors", "queue", "sleep_duration", "timeout":
		return true
	}
	return false
}
