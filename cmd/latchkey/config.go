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

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

func printConfig(_ context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("config", args); err != nil {
		return err
	}
	cfg, err := loadConfig(environ, config.Tool)
	if err != nil {
		return err
	}
	if err := cfg.Print(stdout, environ); err != nil {
		return err
	}
	return printWeak(cfg, stdout)
}

// databaseConfig is loadConfig for commands that work on the database.
func databaseConfig(environ []string) (*config.Config, error) {
	cfg, err := loadConfig(environ, config.Tool)
	if err != nil {
		return nil, err
	}
	if cfg.DatabaseURL == "" {
		return nil, config.Reject("LATCHKEY_DATABASE_URL", "is not set")
	}
	return cfg, nil
}

// loadConfig reads the settings and has the packages that will use them judge their
// forms, so that a wrong one is told before anything starts.
func loadConfig(environ []string, profile config.Profile) (*config.Config, error) {
	cfg, err := config.Load(environ, profile)
	if err != nil {
		return nil, err
	}
	if cfg.DatabaseURL != "" {
		if err := postgres.CheckURL(string(cfg.DatabaseURL)); err != nil {
			return nil, config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
		}
	}
	if cfg.SMTPURL != "" {
		if _, err := mail.ParseSMTPURL(string(cfg.SMTPURL)); err != nil {
			return nil, config.Reject("LATCHKEY_SMTP_URL", "is not usable ("+err.Error()+")")
		}
	}
	if cfg.ResetURL != "" {
		if _, err := mail.ParseResetURL(cfg.ResetURL); err != nil {
			return nil, config.Reject("LATCHKEY_RESET_URL", "is not usable ("+err.Error()+")")
		}
	}
	if cfg.MailFrom != "" {
		if _, err := mail.ParseFrom(cfg.MailFrom); err != nil {
			return nil, config.Reject("LATCHKEY_MAIL_FROM", "is not usable ("+err.Error()+")")
		}
	}
	if err := hashParams(cfg).Validate(); err != nil {
		return nil, config.Reject("LATCHKEY_ARGON2_MEMORY_KIB", "with LATCHKEY_ARGON2_TIME is not usable ("+err.Error()+")")
	}
	return cfg, nil
}

func hashParams(cfg *config.Config) password.Params {
	return password.Params{
		MemoryKiB: uint32(cfg.Argon2MemoryKiB), //nolint:gosec // G115: config bounds all three
		Time:      uint32(cfg.Argon2Time),      //nolint:gosec // G115
		Threads:   uint8(cfg.Argon2Threads),    //nolint:gosec // G115
	}
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
