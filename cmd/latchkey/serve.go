package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/latchkey-auth/latchkey/internal/config"
)

func serve(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("serve", args); err != nil {
		return err
	}
	cfg, warned, err := strongConfig(environ)
	if err != nil {
		return err
	}
	log := newLogger(cfg, environ)
	sayWeak(ctx, warned, log)
	sayWhoIsCounted(log, cfg)
	sender, err := newSMTP(cfg)
	if err != nil {
		return err
	}
	l, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.close()
	st, err := openStores(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer st.close()
	a, err := newApp(ctx, cfg, log, st, sender)
	if err != nil {
		return err
	}
	return a.run(ctx, l, a.server.Handler(), stdout)
}

// sayWhoIsCounted tells what the limits of a network address rest on.
func sayWhoIsCounted(log *slog.Logger, cfg *config.Config) {
	if cfg.AddressRateLimit && len(cfg.TrustedProxies) == 0 {
		log.Info("no proxy is trusted: x-forwarded-for is not read, and the clients of a proxy share the limits of its address",
			"setting", "LATCHKEY_TRUSTED_PROXIES")
	}
}
