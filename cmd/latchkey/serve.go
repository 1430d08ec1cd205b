package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

func serve(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("serve", args); err != nil {
		return err
	}
	cfg, warned, err := app.LoadServeSettings(environ)
	if err != nil {
		return err
	}
	log := newLogger(cfg, environ)
	app.LogWeak(ctx, warned, log)
	logAddressLimits(log, cfg)
	sender, err := app.NewSMTP(cfg)
	if err != nil {
		return err
	}
	l, err := app.Listen(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	st, err := app.OpenStores(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer st.Close()
	a, err := app.New(ctx, app.Config{Settings: cfg, Stores: st, Sender: sender, Logger: log})
	if err != nil {
		return err
	}
	return a.Run(ctx, l, a.Server.Handler(), stdout)
}

// logAddressLimits logs that no proxy is trusted: then clients behind a proxy share the limits of its address.
func logAddressLimits(log *slog.Logger, cfg *config.Config) {
	if cfg.AddressRateLimit && len(cfg.TrustedProxies) == 0 {
		log.Info("no proxy is trusted: x-forwarded-for is not read, and the clients of a proxy share the limits of its address",
			"setting", "LATCHKEY_TRUSTED_PROXIES")
	}
}
