package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/server"
)

const (
	// drainTime is what calls under way get when the service stops. Under the 30 s
	// after which container managers kill.
	drainTime = 20 * time.Second
	lastTime  = 12 * time.Second
	// firstReadTime is how long a start waits for the ledger at most: that the stores answered says that it will not be long.
	firstReadTime = 30 * time.Second
	// spareHeap is never written to, and so takes no memory, but the collector counts it
	// as live: a heap of 6 MiB is then collected when it has grown to 44 MiB instead of
	// 12. At 20,000 validations a second that is 5 collections a second instead of 20,
	// 12% less processor time for each, and 30 MiB more of memory while they go on. A
	// larger GOGC would do the same here, and take gigabytes once the caches are full.
	spareHeap         = 32 << 20
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// pagesWriteTimeout is for public pages, which are small; a profile takes longer.
	pagesWriteTimeout = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// listeners are bound before anything else is done: taken ports are told at once, all of
// them.
type listeners struct{ grpc, http, ops net.Listener }

func listen(ctx context.Context, cfg *config.Config) (*listeners, error) {
	l := &listeners{}
	var config net.ListenConfig
	var failed error
	for _, one := range []struct {
		to             *net.Listener
		variable, addr string
	}{
		{&l.grpc, "LATCHKEY_GRPC_ADDR", cfg.GRPCAddr},
		{&l.http, "LATCHKEY_HTTP_ADDR", cfg.HTTPAddr},
		{&l.ops, "LATCHKEY_OPS_ADDR", cfg.OpsAddr},
	} {
		bound, err := config.Listen(ctx, "tcp", one.addr)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", one.variable, err))
			continue
		}
		*one.to = bound
	}
	if failed != nil {
		l.close()
		return nil, failed
	}
	return l, nil
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.grpc, l.http, l.ops} {
		if one != nil {
			_ = one.Close() // closed twice after a normal stop
		}
	}
}

// run serves until ctx is over or a listener fails, and stops in order: calls
// first, then mails, so that what a call queued may still go out.
func (a *app) run(ctx context.Context, l *listeners, pages http.Handler, stdout io.Writer) error {
	spare := make([]byte, spareHeap)
	defer runtime.KeepAlive(spare)
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	if err := a.outbox.Start(background); err != nil {
		return fmt.Errorf("start the mail outbox: %w", err)
	}
	a.countHashes(background)
	go a.keepUp(background)
	go a.tls.watch(background, a.log)
	leaveLedger, err := a.followLedger(ctx, background)
	defer leaveLedger()
	if err != nil {
		return err
	}

	httpServer := newHTTPServer(pages, a.server.HTTPErrors("http"))
	httpServer.WriteTimeout = pagesWriteTimeout
	opsServer := newHTTPServer(a.opsPages(), a.server.HTTPErrors("ops"))
	failed := make(chan error, 3)
	go func() { failed <- a.server.Serve(background, l.grpc) }()
	go func() { failed <- serveHTTP(httpServer, a.server.Bound(l.http, "http"), a.tls.config()) }() //nolint:contextcheck // a listener lives as long as the server
	go func() { failed <- serveHTTP(opsServer, a.server.BoundOperations(l.ops), nil) }()            //nolint:contextcheck // likewise

	if err := a.server.WaitServing(ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "ready grpc=%s http=%s ops=%s\n", l.grpc.Addr(), l.http.Addr(), l.ops.Addr()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-failed:
	}
	a.stop(ctx, httpServer, opsServer)
	return err
}

// followLedger begins to follow the ledger, and waits until it was read to its end once: a replica that
// cannot follow it would answer each validation from PostgreSQL and hold up every revocation, and look
// well. leave ends it: once no more calls are answered, and before the stores are closed.
func (a *app) followLedger(ctx, background context.Context) (leave func(), err error) {
	following, stop := context.WithCancel(background)
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.ledger.Run(following)
	}()
	leave = func() {
		stop()
		<-left
	}
	waiting, cancel := context.WithTimeout(ctx, firstReadTime)
	defer cancel()
	if err := a.ledger.WaitFollowed(waiting); err != nil && ctx.Err() == nil {
		return leave, fmt.Errorf("the revocation ledger cannot be followed: %w", errors.Join(a.ledger.Failed(), err))
	}
	return leave, nil // a start that was told to stop stops in order
}

func (a *app) stop(ctx context.Context, servers ...*http.Server) {
	ctx = context.WithoutCancel(ctx)
	draining, drained := context.WithTimeout(ctx, a.cfg.ShutdownDelay+drainTime)
	defer drained()
	a.server.Shutdown(draining, a.cfg.ShutdownDelay)
	// Calls that took all of their time leave mails and pages theirs.
	ctx, cancel := context.WithTimeout(ctx, lastTime)
	defer cancel()
	if err := a.outbox.Stop(ctx); err != nil {
		a.log.WarnContext(ctx, "mails under way when the service stopped are sent again", "error", err)
	}
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			a.log.WarnContext(ctx, "HTTP requests cut off", "error", err)
		}
	}
}

func newHTTPServer(pages http.Handler, errorLog slog.Handler) *http.Server {
	return &http.Server{
		Handler:           pages,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(errorLog, slog.LevelDebug),
	}
}

func serveHTTP(s *http.Server, l net.Listener, tlsConfig *tls.Config) error {
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// keepUp lets unknown accounts cost what known ones cost while the stored hashes
// change, and signing keys move on when they are due.
func (a *app) keepUp(ctx context.Context) {
	a.tendKeys(ctx) // something may have been due for long
	a.eviction.look(ctx)
	decoys, keys := time.NewTicker(decoyEvery), time.NewTicker(keysEvery)
	defer decoys.Stop()
	defer keys.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-decoys.C:
			a.countHashes(ctx)
		case <-keys.C:
			a.tendKeys(ctx)
			a.eviction.look(ctx)
		}
	}
}

// tendKeys moves signing keys on that are due, and reads what others have moved.
func (a *app) tendKeys(ctx context.Context) {
	tending, cancel := context.WithTimeout(ctx, keysTime)
	changes, err := a.rotator.Tend(tending)
	cancel()
	if err != nil {
		a.log.WarnContext(ctx, "signing keys not tended", "error", err)
	}
	for _, change := range changes {
		a.log.InfoContext(ctx, "signing key", "key_id", change.ID, "algorithm", string(change.Algorithm),
			"from", string(orNew(change.From)), "to", string(change.To))
	}
	// In a time of its own: another replica may hold up the turn to change keys.
	reading, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	if err := a.keyring.Reload(reading); err != nil {
		a.log.WarnContext(ctx, "signing keys not read again", "error", err)
	}
}

func (a *app) countHashes(ctx context.Context) {
	decoys, err := server.StoredSettings(ctx, a.stores.pool)
	if err != nil {
		a.log.WarnContext(ctx, "kinds of stored hashes not counted", "error", err)
		return
	}
	a.hasher.SetDecoys(decoys)
}
