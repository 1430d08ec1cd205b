package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

func printConfig(_ context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("config", args); err != nil {
		return err
	}
	cfg, err := app.LoadSettings(environ, config.Tool)
	if err != nil {
		return err
	}
	if err := cfg.Print(stdout, environ); err != nil {
		return err
	}
	return printWeak(cfg, stdout)
}

// printWeak is for latchkey config: what it prints for scripts and people.
func printWeak(cfg *config.Config, stdout io.Writer) error {
	refused, warned := app.Weaknesses(cfg, config.Serve)
	for _, one := range warned {
		if _, err := fmt.Fprintf(stdout, "warning: %s %s\n", one.Variable, one.Wrong); err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		return &config.Error{Problems: refused}
	}
	return nil
}

// databaseConfig is app.LoadSettings for commands that work on the database.
func databaseConfig(environ []string) (*config.Config, error) {
	return app.LoadSettings(environ, config.Tool, func(cfg *config.Config) error {
		if cfg.DatabaseURL == "" {
			return config.Reject("LATCHKEY_DATABASE_URL", "is not set")
		}
		return nil
	})
}

// newLogger writes to stderr: lines for people on a terminal, else JSON.
func newLogger(cfg *config.Config, environ []string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // one of four known words: config saw to it
	text := cfg.LogFormat == "text"
	if cfg.LogFormat == "auto" {
		info, err := os.Stderr.Stat()
		text = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	if text {
		handler = tint.NewTextHandler(os.Stderr, &tint.Options{Level: level, TimeFormat: "15:04:05.000"})
	}
	log := slog.New(handler)
	if unknown := config.Unknown(environ); len(unknown) > 0 {
		log.Warn("these variables are no settings: misspelt?", "variables", strings.Join(unknown, " "))
	}
	redis.SetLogger(redisLog{log})
	return log
}

// redisLog takes what go-redis says beside the errors that it returns, which would go
// to stderr past the log: attempts and addresses, no keys or values. Failures that
// matter are told by those who meet them.
type redisLog struct{ log *slog.Logger }

// Printf implements the logger of go-redis.
func (r redisLog) Printf(ctx context.Context, format string, args ...any) {
	r.log.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, args...))
}
