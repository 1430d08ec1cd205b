package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/logbuffer"
)

// newLogger returns the logger of a command, which writes to stderr. It warns about variables that look like
// settings and are none.
func newLogger(cfg *config.Config, environ []string) *slog.Logger {
	log, _ := newDelayedLogger(cfg, environ, 0)
	return log
}

// newDelayedLogger returns a logger whose lines may wait for this long, and what writes the last of them: call it before
// the process ends.
func newDelayedLogger(cfg *config.Config, environ []string, delay time.Duration) (log *slog.Logger, last func()) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // config accepts the four names of slog only
	w := logbuffer.New(os.Stderr, delay)
	log = slog.New(w.Handler(logHandler(w, cfg.LogFormat, level, isTerminal(os.Stderr))))
	if unknown := config.Unknown(environ); len(unknown) > 0 {
		log.Warn("these variables are no settings: misspelt?", "variables", strings.Join(unknown, " "))
	}
	redis.SetLogger(redisLog{log})
	return log, w.Close
}

// logHandler returns a handler for LATCHKEY_LOG_FORMAT. Text has colours on a terminal only: in a file or a
// pipe they are noise, and tools that search the lines stumble.
func logHandler(w io.Writer, format string, level slog.Level, terminal bool) slog.Handler {
	if format == "text" || format == "auto" && terminal {
		return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !terminal})
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
}

// redisLog receives the lines that go-redis logs itself, beside the errors that it returns; without it those lines
// would go to stderr in another form. They name attempts and addresses, never keys or values. The level is
// debug: callers log the errors that matter.
type redisLog struct{ log *slog.Logger }

// Printf implements the logger of go-redis.
func (r redisLog) Printf(ctx context.Context, format string, args ...any) {
	r.log.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, args...))
}
