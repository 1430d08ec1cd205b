package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lmittmann/tint"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy"
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
	return loadConfig(environ, config.Tool, func(cfg *config.Config) error {
		if cfg.DatabaseURL == "" {
			return config.Reject("LATCHKEY_DATABASE_URL", "is not set")
		}
		return nil
	})
}

// loadConfig reads the settings and has the packages that will use them judge their
// forms, so that all that is wrong is told at once, before anything starts.
func loadConfig(environ []string, profile config.Profile, judges ...config.Judge) (*config.Config, error) {
	judges = append(judges, judgeDatabaseURL, judgeDirectURL, judgeSMTPURL, judgeResetURL, judgeMailFrom, judgeProductName, judgeHashes)
	if profile == config.Serve || profile == config.Dev {
		judges = append(judges, judgeTLS, judgeSMTPCA, judgeMailTemplates, judgeRedisCA) // files that other commands need not have
		judges = append(judges, whereLegacy(judgeFormerPublic), whereLegacy(judgeFormerPrivate), whereLegacy(judgeFormerKeys))
	}
	return config.Load(environ, profile, judges...)
}

func judgeDatabaseURL(cfg *config.Config) error {
	if cfg.DatabaseURL == "" {
		return nil
	}
	return unusable("LATCHKEY_DATABASE_URL", postgres.CheckURL(string(cfg.DatabaseURL)))
}

func judgeDirectURL(cfg *config.Config) error {
	switch {
	case cfg.DatabaseDirectURL == "":
		return nil
	case cfg.DatabaseURL == "":
		return config.Reject("LATCHKEY_DATABASE_DIRECT_URL", "is set though LATCHKEY_DATABASE_URL is not")
	}
	return unusable("LATCHKEY_DATABASE_DIRECT_URL", postgres.CheckURL(string(cfg.DatabaseDirectURL)))
}

func judgeSMTPURL(cfg *config.Config) error {
	if cfg.SMTPURL == "" {
		return nil
	}
	_, err := mail.ParseSMTPURL(string(cfg.SMTPURL))
	return unusable("LATCHKEY_SMTP_URL", err)
}

func judgeResetURL(cfg *config.Config) error {
	if cfg.ResetURL == "" {
		return nil
	}
	_, err := mail.ParseResetURL(cfg.ResetURL, cfg.InsecureLinks)
	return unusable("LATCHKEY_RESET_URL", err)
}

func judgeMailFrom(cfg *config.Config) error {
	if cfg.MailFrom == "" {
		return nil
	}
	_, err := mail.ParseFrom(cfg.MailFrom)
	return unusable("LATCHKEY_MAIL_FROM", err)
}

func judgeProductName(cfg *config.Config) error {
	if strings.ContainsFunc(cfg.ProductName, unicode.IsControl) || !utf8.ValidString(cfg.ProductName) {
		return config.Reject("LATCHKEY_PRODUCT_NAME", "must be one line of text")
	}
	return nil
}

func judgeSMTPCA(cfg *config.Config) error {
	_, err := smtpRoots(cfg)
	return err
}

func judgeRedisCA(cfg *config.Config) error {
	_, err := redisURL(cfg)
	return err
}

// redisURL is the URL with the authorities that its servers' certificates must be signed by.
func redisURL(cfg *config.Config) (config.RedisURL, error) {
	if cfg.RedisCAFile == "" {
		return cfg.RedisURL, nil
	}
	if !cfg.RedisURL.IsZero() && !cfg.RedisURL.IsTLS() {
		return cfg.RedisURL, config.Reject("LATCHKEY_REDIS_CA_FILE", "is set though LATCHKEY_REDIS_URL asks for no TLS (rediss://)")
	}
	roots, err := mail.RootCAs(cfg.RedisCAFile)
	return cfg.RedisURL.WithRoots(roots), unusable("LATCHKEY_REDIS_CA_FILE", err)
}

func judgeMailTemplates(cfg *config.Config) error {
	_, err := mailTemplates(cfg)
	return err
}

func judgeHashes(cfg *config.Config) error {
	if cfg.Argon2MemoryKiB == 0 || cfg.Argon2Time == 0 || cfg.Argon2Threads == 0 {
		return nil
	}
	if err := hashParams(cfg).Validate(); err != nil {
		return config.Reject("LATCHKEY_ARGON2_MEMORY_KIB", "with LATCHKEY_ARGON2_TIME is not usable ("+err.Error()+")")
	}
	return nil
}

func judgeTLS(cfg *config.Config) error {
	if cfg.TLSCertFile == "" || cfg.TLSKeyFile == "" {
		return nil
	}
	_, err := loadTLS(cfg)
	return err
}

// judgeFormerPublic, judgeFormerPrivate and judgeFormerKeys: each file by itself, then
// whether both are halves of one key.
func judgeFormerPublic(cfg *config.Config) error {
	_, err := readKey(legacyPublicKeyFile, cfg.LegacyRS256PublicKeyFile, legacy.ParsePublicKey)
	return err
}

func judgeFormerPrivate(cfg *config.Config) error {
	_, err := readKey(legacyPrivateKeyFile, cfg.LegacyRS256PrivateKeyFile, legacy.ParsePrivateKey)
	return err
}

func judgeFormerKeys(cfg *config.Config) error {
	_, err := formerKey(cfg)
	return err
}

// whereLegacy leaves out the files of a backend that is not taken over.
func whereLegacy(judge config.Judge) config.Judge {
	return func(cfg *config.Config) error {
		if !cfg.LegacyEnabled {
			return nil
		}
		return judge(cfg)
	}
}

func unusable(variable string, err error) error {
	if err == nil {
		return nil
	}
	return config.Reject(variable, "is not usable ("+err.Error()+")")
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
