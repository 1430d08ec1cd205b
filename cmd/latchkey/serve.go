package main

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"

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
	leaveRoom(environ, cfg)
	log, last := newDelayedLogger(cfg, environ, cfg.LogDelay)
	defer last()
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
	a, err := app.New(ctx, app.Config{Settings: cfg, Stores: st, Sender: sender, Logger: log, Version: versionText()})
	if err != nil {
		return err
	}
	return a.Run(ctx, l, a.Server.Handler(), stdout)
}

// maxRoom is the most hashes that leaveRoom makes room for: each may take a thread, of which Go allows 10,000.
const maxRoom = 256

// leaveRoom decides on the hash slots, and lets Go run as many goroutines at once as there are processors and hashes.
// Go's scheduler looks for messages from the network only if it has nothing to run, or each 10 ms. With a hash on each
// processor, every other call would wait for that long. With room for one more, the kernel divides the processors among
// hashes and calls, and does that far better: with hashes on all processors the median of a loopback echo was up to
// 14 ms, and 0.03 ms with room.
//
// Who sets GOMAXPROCS decides alone. Go no longer follows a quota of the container that changes while it runs.
func leaveRoom(environ []string, cfg *config.Config) {
	isSet := slices.ContainsFunc(environ, func(variable string) bool {
		value, ok := strings.CutPrefix(variable, "GOMAXPROCS=")
		return ok && value != ""
	})
	if !isSet {
		runtime.SetDefaultGOMAXPROCS() // a second call in one process must not add to the first
	}
	cfg.HashSlots = app.HashSlots(cfg)
	if !isSet {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + min(cfg.HashSlots, maxRoom))
	}
}

// logAddressLimits logs that no proxy is trusted: then clients behind a proxy share the limits of its address.
func logAddressLimits(log *slog.Logger, cfg *config.Config) {
	if cfg.AddressRateLimit && len(cfg.TrustedProxies) == 0 {
		log.Info("no proxy is trusted: x-forwarded-for is not read, and the clients of a proxy share the limits of its address",
			"setting", "LATCHKEY_TRUSTED_PROXIES")
	}
}
