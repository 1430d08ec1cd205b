package server

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/caller"
)

// logCall writes the access log. It never logs requests or responses: debug_redact does not hide fields from Go's
// String.
func (s *Server) logCall(ctx context.Context, method string, start time.Time, err error) {
	level := slog.LevelInfo
	if strings.HasPrefix(method, "/grpc.") {
		level = slog.LevelDebug // health and reflection: many probes call every second
	}
	now, code := s.cfg.Now(), status.Code(err)
	if !s.cfg.Log.all.Enabled(ctx, level) || !s.cfg.Log.flood.allows(kind{accessLine, method, code}, now) {
		return
	}
	c := caller.From(ctx)
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("code", code.String()),
		slog.Float64("took_ms", float64(now.Sub(start).Microseconds())/1000),
		slog.String("address", c.AddressText()),
		slog.String("trace_id", c.TraceID),
		slog.String("call_id", c.CallID),
	}
	if id := c.UserID(); id != uuid.Nil {
		attrs = append(attrs, slog.String("user_id", id.String()))
	}
	if reason := reasonOf(err); reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	s.cfg.Log.all.LogAttrs(ctx, level, accessLine, attrs...)
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
