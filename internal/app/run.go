package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/inbound"
)

const (
	// drainTime is how long calls under way may still take when the service stops. It is shorter than the 30
	// s after which container managers kill. lastTime is for mails and pages after that.
	drainTime = 20 * time.Second
	lastTime  = 12 * time.Second
	// firstReadTime is how long a start waits for the ledger. The stores have answered by then, so it
	// normally takes far less.
	firstReadTime = 30 * time.Second
	// spareHeap is never written to, so it takes no memory, but the garbage collector counts it as live. A
	// heap of 6 MiB is then collected when it has grown to 44 MiB instead of 12. At 20,000 validations a
	// second that means 5 collections a second instead of 20, 12% less processor time for each validation,
	// and 30 MiB more memory under that load. A larger GOGC would do the same here, and would take gigabytes
	// once the caches are full.
	spareHeap = 32 << 20
	// returnEvery is how long a replica must have allocated next to nothing until it gives memory back. That costs some
	// milliseconds of a processor.
	returnEvery       = time.Minute
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// pagesWriteTimeout is for the public pages, which are small. A profile takes longer.
	pagesWriteTimeout = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

// Listeners are bound before anything else happens, so that all ports that are in use are reported at once.
type Listeners struct{ GRPC, HTTP, Ops net.Listener }

// Listen binds the addresses of the settings. Its error names every address that cannot be bound.
func Listen(ctx context.Context, cfg *config.Config) (*Listeners, error) {
	l := &Listeners{}
	var config net.ListenConfig
	var failed error
	for _, one := range []struct {
		to             *net.Listener
		variable, addr string
	}{
		{&l.GRPC, "LATCHKEY_GRPC_ADDR", cfg.GRPCAddr},
		{&l.HTTP, "LATCHKEY_HTTP_ADDR", cfg.HTTPAddr},
		{&l.Ops, "LATCHKEY_OPS_ADDR", cfg.OpsAddr},
	} {
		bound, err := config.Listen(ctx, "tcp", one.addr)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", one.variable, err))
			continue
		}
		*one.to = bound
	}
	if failed != nil {
		l.Close()
		return nil, failed
	}
	return l, nil
}

// Close may be called more than once.
func (l *Listeners) Close() {
	for _, one := range []net.Listener{l.GRPC, l.HTTP, l.Ops} {
		if one != nil {
			_ = one.Close() // closed twice after a normal stop
		}
	}
}

// Run serves until ctx ends or a listener fails. When it serves, it writes "ready grpc=H:P http=H:P ops=H:P"
// to stdout. It stops calls first and mails after them, so that mails that a call has queued can still be
// sent.
func (a *App) Run(ctx context.Context, l *Listeners, pages http.Handler, stdout io.Writer) error {
	spare := newSpare()
	defer runtime.KeepAlive(spare)
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	if !a.overrides.NoUpkeep {
		a.peppersChecked = a.checkPeppers(background, startPeppersTime)
		// Before the first login. A count of any age will do, so that a start does not wait for one: keepUp renews it at
		// once. Only the first start on a database counts.
		a.countHashes(background, math.MaxInt64)
	}
	if err := a.jobs.Start(background); err != nil {
		return fmt.Errorf("start the jobs: %w", err)
	}
	go a.certificate.watch(background, a.log)
	leaveLedger, err := a.followLedger(ctx, background)
	defer leaveLedger()
	if err != nil {
		return err
	}

	httpServer := newHTTPServer(pages, a.Server.HTTPErrors("http"))
	httpServer.WriteTimeout, httpServer.ConnContext = pagesWriteTimeout, inbound.ConnContext
	httpServer.Protocols, httpServer.HTTP2 = httpProtocols(), http2Limits()
	opsServer := newHTTPServer(a.opsPages(), a.Server.HTTPErrors("ops"))
	failed := make(chan error, 3)
	go func() { failed <- a.Server.Serve(background, l.GRPC) }()
	pagesTLS := cmp.Or(a.overrides.TLS, a.certificate.config())
	go func() { failed <- serveHTTP(httpServer, a.Server.Bound(l.HTTP, "http"), pagesTLS) }() //nolint:contextcheck // a listener lives as long as the server
	go func() { failed <- serveHTTP(opsServer, a.Server.BoundOperations(l.Ops), nil) }()      //nolint:contextcheck // likewise

	if err := a.Server.WaitServing(ctx); err != nil {
		return err
	}
	go returnMemory(background)
	if _, err := fmt.Fprintf(stdout, "ready grpc=%s http=%s ops=%s\n", l.GRPC.Addr(), l.HTTP.Addr(), l.Ops.Addr()); err != nil {
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

// followLedger starts to follow the ledger, and waits until it has been read to its end once. A replica that
// cannot follow it would look healthy, but would answer each validation from PostgreSQL and delay every
// revocation. leave stops following: call it when no calls are answered any more, and before the stores are
// closed.
func (a *App) followLedger(ctx, background context.Context) (leave func(), err error) {
	following, stop := context.WithCancel(background)
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.Ledger.Run(following)
	}()
	leave = func() {
		stop()
		<-left
	}
	waiting, cancel := context.WithTimeout(ctx, firstReadTime)
	defer cancel()
	if err := a.Ledger.WaitFollowed(waiting); err != nil && ctx.Err() == nil {
		return leave, fmt.Errorf("the revocation ledger cannot be followed: %w", errors.Join(a.Ledger.Failed(), err))
	}
	return leave, nil // ctx has ended: Run stops as usual
}

// returnMemory gives the memory of the start back to the kernel, and that of garbage whenever nothing was collected for
// returnEvery. With spareHeap, Go itself would let 70 MiB come together first, and 2 minutes pass.
func returnMemory(ctx context.Context) {
	debug.FreeOSMemory()
	ticker := time.NewTicker(returnEvery)
	defer ticker.Stop()
	for last := collections(); ; last = collections() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if collections() == last {
				debug.FreeOSMemory()
			}
		}
	}
}

// collections returns how often the garbage collector has run.
func collections() int64 {
	var s debug.GCStats
	debug.ReadGCStats(&s)
	return s.NumGC
}

func (a *App) stop(ctx context.Context, pages, operations *http.Server) {
	ctx = context.WithoutCancel(ctx)
	draining, drained := context.WithTimeout(ctx, a.cfg.ShutdownDelay+drainTime)
	defer drained()
	a.Server.Shutdown(draining, a.cfg.ShutdownDelay, pages)
	// Mails and metrics have their own time, even if calls used up all of theirs.
	ctx, cancel := context.WithTimeout(ctx, lastTime)
	defer cancel()
	if err := a.jobs.Stop(ctx); err != nil {
		a.log.WarnContext(ctx, "mails under way when the service stopped are sent again", "error", err)
	}
	if err := operations.Shutdown(ctx); err != nil {
		a.log.WarnContext(ctx, "HTTP requests of the operations listener cut off", "error", err)
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

// httpProtocols are those of the public HTTP listener. HTTP/2 without TLS is for proxies and for clients that know it.
func httpProtocols() *http.Protocols {
	var all http.Protocols
	all.SetHTTP1(true)
	all.SetHTTP2(true)
	all.SetUnencryptedHTTP2(true)
	return &all
}

// http2Limits bound what one connection costs. A request has at most 16 KiB.
func http2Limits() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: 128, MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 256 << 10,
		// A peer that disappears silently is noticed within 80 s, as on the gRPC listener.
		SendPingTimeout: time.Minute, PingTimeout: 20 * time.Second, WriteByteTimeout: pagesWriteTimeout,
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
