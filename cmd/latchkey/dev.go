package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accountpages"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// stopTime is how long the stores that dev started may take to stop.
const stopTime = 20 * time.Second

// mailboxSize is how many caught mails are kept in memory.
const mailboxSize = 200

// dev runs the whole service on this machine. It starts the stores and makes the keys that the settings do not name.
func dev(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("dev", args); err != nil {
		return err
	}
	cfg, err := app.LoadSettings(environ, config.Dev)
	if err != nil {
		return err
	}
	if err := devstack.DieWithParent(); err != nil {
		return err
	}
	log := newLogger(cfg, environ)
	refused, warned := app.Weaknesses(cfg, config.Dev)
	app.LogWeak(ctx, append(refused, warned...), log)
	dir, release, err := lockDevDir(cfg, environ)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the process ends here, and the lock with it
	l, err := app.Listen(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	view, err := devDefaults(cfg, l, dir)
	if err != nil {
		return err
	}
	local, err := startStores(ctx, cfg, dir, log)
	defer local.stop(ctx, log)
	if err != nil {
		return err
	}
	mailbox, err := devMailbox(cfg)
	if err != nil {
		return err
	}
	st, err := app.OpenStores(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer st.Close()
	a, err := app.New(ctx, app.Config{Settings: cfg, Stores: st, Sender: mailbox, Logger: log, LocalPages: true, Version: versionText()})
	if local.postgres != nil {
		err = explainSealed(err, dir)
	}
	if err != nil {
		return err
	}
	ctx, lost := local.watch(ctx)
	view.complete(cfg, os.Args[0])
	if _, err := fmt.Fprint(os.Stderr, view.greeting()); err != nil {
		return err
	}
	err = a.Run(ctx, l, devPages(a.Server.Handler(), mailbox, view), stdout)
	return errors.Join(err, lost())
}

// devDefaults fills in the settings that depend on the listeners, and the keys.
func devDefaults(cfg *config.Config, l *app.Listeners, dir string) (*devView, error) {
	view, err := newDevView(cfg, l, dir)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(l.HTTP.Addr().String())
	if err != nil {
		return nil, err
	}
	scheme, _, _ := strings.Cut(view.HTTP, ":")
	local := scheme + "://localhost:" + port
	if cfg.AccountPages {
		view.Pages = view.HTTP
		if cfg.TLSCertFile == "" { // browsers have passkeys for this name, and for no IP address
			view.Pages = local
		}
		cfg.DefaultLinks(view.Pages)
		view.Pages += accountpages.Root
	}
	if cfg.ResetURL == "" {
		cfg.ResetURL = view.HTTP + "/dev/reset"
	}
	if cfg.VerifyURL == "" {
		cfg.VerifyURL = view.HTTP + "/dev/verify"
	}
	if cfg.EmailChangeURL == "" {
		cfg.EmailChangeURL = view.HTTP + "/dev/email-change"
	}
	if cfg.PasskeyRPID == "" { // browsers take this name, and no IP address
		cfg.PasskeyRPID, cfg.PasskeyOrigins, view.Passkeys = "localhost", config.Origins{local}, local+passkeyPath
	}
	if cfg.Issuer == "" { // verifiers fetch the keys from there
		cfg.Issuer = view.HTTP
	}
	return view, devKeys(cfg, dir)
}

// localStores are the servers that dev started itself.
type localStores struct {
	postgres *devstack.Postgres
	redis    *devstack.Redis
}

// startStores starts the stores that the settings do not name, and writes their URLs into the settings.
func startStores(ctx context.Context, cfg *config.Config, dir string, log *slog.Logger) (*localStores, error) {
	local := &localStores{}
	if cfg.DatabaseURL == "" {
		var err error
		local.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{
			DataDir: filepath.Join(dir, postgresDir), Durable: true, LogFile: filepath.Join(dir, postgresDir+".log"),
			CacheDir: filepath.Join(dir, cacheDir), Notify: func(message string) { log.InfoContext(ctx, "PostgreSQL", "note", message) },
		})
		if err != nil {
			return local, err
		}
		if err := local.postgres.EnsureDatabase(ctx, "latchkey"); err != nil {
			return local, err
		}
		cfg.DatabaseURL = config.URL(local.postgres.URL("latchkey"))
	}
	if !cfg.RedisURL.IsZero() {
		return local, nil
	}
	var err error
	local.redis, err = devstack.StartRedis(ctx, devstack.RedisConfig{
		DataDir: filepath.Join(dir, redisDir), AppendOnly: true, LogFile: filepath.Join(dir, redisDir+".log"),
	})
	if errors.Is(err, devstack.ErrNoRedis) {
		log.WarnContext(ctx, "no redis-server on this machine: sessions live in this process and end with it; install redis-server to keep them")
		cfg.RedisMayEvict = true // the stand-in drops no keys; the check would ask it for its policy, and it has none to show
		local.redis, err = devstack.StartMiniredis()
	}
	if err != nil {
		return local, err
	}
	return local, cfg.RedisURL.UnmarshalText([]byte(local.redis.URL()))
}

func (s *localStores) stop(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if s.redis != nil {
		if err := s.redis.Stop(ctx); err != nil {
			log.WarnContext(ctx, "stop Redis", "error", err)
		}
	}
	if s.postgres != nil {
		if err := s.postgres.Stop(ctx); err != nil {
			log.WarnContext(ctx, "stop PostgreSQL", "error", err)
		}
	}
}

// watch cancels the context when a server stops by itself: dev cannot work without its stores. The second
// result returns the reason.
func (s *localStores) watch(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	gone := func(name string, done <-chan struct{}, why func() error) {
		select {
		case <-done:
			cancel(fmt.Errorf("%s stopped by itself: %w", name, why()))
		case <-ctx.Done():
		}
	}
	if s.postgres != nil {
		go gone("PostgreSQL", s.postgres.Done(), s.postgres.Err)
	}
	if s.redis != nil {
		go gone("Redis", s.redis.Done(), s.redis.Err)
	}
	return ctx, func() error {
		defer cancel(nil)
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return nil
	}
}

// devMailbox returns a mailbox that catches mails. It also sends them if a mail server is set.
func devMailbox(cfg *config.Config) (*mail.Mailbox, error) {
	if cfg.SMTPURL == "" {
		return mail.NewMailbox(mailboxSize, nil), nil
	}
	sender, err := app.NewSMTP(cfg)
	if err != nil {
		return nil, err
	}
	return mail.NewMailbox(mailboxSize, sender), nil
}
