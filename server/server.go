// Package server has the parts that all RPCs share: the listener, the middleware, policies, errors, health and the HTTP
// pages. A request passes the middleware and comes to a service (server/auth, server/admin and others), which calls a
// flow, such as internal/login.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/inbound"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/overhttp"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Limits of one gRPC connection.
const (
	// maxMessage has room for every field of every request at its limit, except those of imports.
	maxMessage = 16 << 10
	// maxImport is the limit for a message of an import: a thousand accounts.
	maxImport = 1<<20 + 64<<10
	// maxReflection is how much a client may ask of reflection on one stream, which may last for reflectionTime:
	// developers' tools keep it open.
	maxReflection  = 64 << 10
	reflectionTime = time.Minute
	// arrivalTime is how long a message may take after the headers of its call if the configuration does not say. In
	// that time TCP has sent a lost segment three times.
	arrivalTime = 10 * time.Second
	// maxStreams limits the calls that run on one connection.
	maxStreams = 128
	// maxHeaders has room for an access token, a trace context and the headers that proxies add.
	maxHeaders = 16 << 10
	// readHeaders is how much of the headers is read, to refuse only the one call. Over this limit gRPC ends the
	// connection with all its calls. grpc-js and gRPC's C core send more than the server says that it accepts.
	readHeaders = 64 << 10
	// connectionIdle is how long a connection without calls is kept. It costs 50 KiB, and a new one costs a
	// millisecond.
	connectionIdle   = 5 * time.Minute
	handshakeTimeout = 10 * time.Second
	// opsConnections limits the connections of the operations listener, opsPerAddress those of one address there: a few
	// collectors of metrics, and a browser with six.
	opsConnections, opsPerAddress = 128, 64
	// pingTime is the shortest time between a client's keepalive pings. The fastest usual clients ping every 10 s, and
	// the network sometimes makes that 9 s. After three pings that are too early, gRPC closes the connection with
	// too_many_pings.
	pingTime = 5 * time.Second
	// streamWorkers are goroutines that serve one call after another. The stack of a new goroutine grows and is copied
	// three times on the way through the interceptors, which is 17% of the processor time of a validation. If all are
	// busy, for example with streams, a call gets a goroutine of its own.
	streamWorkers = 64
)

// Config has the settings of a Server. All fields are required, unless their comments say otherwise.
type Config struct {
	// Register adds the services. Each method must have a policy.
	Register func(grpc.ServiceRegistrar)
	// Validation checks the access tokens for methods of AUTH_CLASS_SESSION, Keys the keys of operators and services.
	Validation *validate.Validator
	Keys       Keys
	// FreshWithin is how recent an authentication must be for methods whose policy asks for a fresh one and names no
	// duration.
	FreshWithin time.Duration

	// Pool and Redis are the stores whose health is watched. Ledger, Keyring and Passwords are for metrics and pages.
	Pool      *pgxpool.Pool
	Redis     redis.UniversalClient
	Ledger    *ledger.Ledger
	Keyring   *signing.Keyring
	Passwords *password.Hasher

	// Rates counts calls by network address if AddressLimit is set. BestEffort counts those that must not wait for
	// Redis.
	Rates        *ratelimit.GCRA
	BestEffort   *besteffort.Redis
	AddressLimit bool
	// Shutdown waits for Afterwards.
	Afterwards *besteffort.Afterwards

	// TLS secures the gRPC listener. Nil: plaintext.
	TLS *tls.Config
	// Reflection serves gRPC reflection.
	Reflection bool
	// WebOrigins are the origins of pages that may call over HTTP, in the form in which browsers send them. LocalOrigins
	// adds all pages of this machine.
	WebOrigins   []string
	LocalOrigins bool
	// WebCookies keeps the refresh tokens of those pages, and of pages of the service's own origin, in cookies. OwnPages
	// does so for Latchkey's own pages alone.
	WebCookies, OwnPages bool
	// AccountPages serves the paths under /account/. Nil: there are no such pages.
	AccountPages http.Handler
	// TrustedProxies are the peers whose x-forwarded-for is believed. Optional.
	TrustedProxies []netip.Prefix
	// ProxyProtocol lets those peers start a connection with a header of the PROXY protocol, which names the client.
	ProxyProtocol bool
	// MaxConnections limits the open connections of each listener, MaxConnectionsPerAddress those of one address that
	// is not a trusted proxy. Zero: no limit.
	MaxConnections, MaxConnectionsPerAddress int
	// ArrivalTime is how long a message may take to arrive after the headers of its call. Zero: 10 s.
	ArrivalTime time.Duration
	// ConnectionAge is when clients are asked to dial again, plus or minus a tenth of it. Zero: 50 minutes.
	ConnectionAge time.Duration

	// Metrics is the registry for the server's metrics.
	Metrics *prometheus.Registry
	// Log has the access log, and limits all other lines.
	Log *Log
	// Now is the clock.
	Now func() time.Time
	// Warnings returns problems that an operator should look at soon, and that are no reason to take the replica out of
	// service. /readyz shows them. They have no secret in them. Nil: none.
	Warnings func() []string
}

// Server serves latchkey.v1 over gRPC, and over HTTP in other protocols beside the pages of Handler.
type Server struct {
	cfg        Config
	log        *slog.Logger // limited; the access log uses cfg.Log
	queries    *db.Queries
	policies   policies
	middleware []middleware
	validator  protovalidate.Validator
	rpcMetrics *rpcMetrics
	grpc       *grpc.Server
	services   *overhttp.Services
	health     *health.Server
	ready      readiness
	started    chan struct{} // closed when Serve has asked the stores
	// drain ends draining when no more calls are accepted. The context of every stream depends on it.
	draining context.Context //nolint:containedctx // it is the life of the server, not of a call
	drain    context.CancelFunc

	guard     *inbound.Guard
	intakes   map[string]intake
	forwarded unheardProxies
}

// New makes a server, which does not listen yet. It returns an error if a method has no policy.
func New(cfg Config) (*Server, error) {
	cfg.ConnectionAge = cmp.Or(cfg.ConnectionAge, connectionAge)
	s := &Server{
		cfg:     cfg,
		log:     cfg.Log.Bounded,
		queries: db.New(),
		started: make(chan struct{}),
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.guard = inbound.NewGuard(inbound.GuardConfig{ArrivalTime: cmp.Or(cfg.ArrivalTime, arrivalTime), Logger: cfg.Log.all})
	s.middleware = s.chain()
	if err := checkChain(s.middleware); err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(s.options()...)
	s.services = &overhttp.Services{ServiceRegistrar: s.grpc}
	cfg.Register(s.services)
	s.health = health.NewServer()
	healthpb.RegisterHealthServer(s.services, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	var err error
	s.policies, err = readPolicies(s.grpc.GetServiceInfo())
	if err != nil {
		return nil, err
	}
	s.intakes = readIntakes(s.grpc.GetServiceInfo())
	s.rpcMetrics = newRPCMetrics(s.grpc.GetServiceInfo())
	// It compiles the rules now, so that the first caller does not wait for that.
	s.validator, err = protovalidate.New(protovalidate.WithMessageDescriptors(s.requests()...))
	if err != nil {
		return nil, fmt.Errorf("validation rules: %w", err)
	}
	s.setServing(false)
	return s, s.registerMetrics()
}

// requests returns the messages that our methods accept.
func (s *Server) requests() []protoreflect.MessageDescriptor {
	var list []protoreflect.MessageDescriptor
	for name := range s.grpc.GetServiceInfo() {
		found, _ := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok || publicServices()[name] {
			continue
		}
		methods := service.Methods()
		for i := range methods.Len() {
			list = append(list, methods.Get(i).Input())
		}
	}
	return list
}

func (s *Server) options() []grpc.ServerOption {
	creds := insecure.NewCredentials()
	if s.cfg.TLS != nil {
		creds = loggedTLS{credentials.NewTLS(s.cfg.TLS), s.log}
	}
	return append(s.guard.ServerOptions(creds),
		grpc.UnaryInterceptor(s.aroundUnary),
		grpc.StreamInterceptor(s.aroundStream),
		grpc.InTapHandle(s.onHeaders),
		grpc.MaxRecvMsgSize(maxImport),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(readHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     connectionIdle,
			MaxConnectionAge:      s.cfg.ConnectionAge,
			MaxConnectionAgeGrace: connectionGrace(s.cfg.ConnectionAge),
			// A peer that disappears silently is noticed within 80 s.
			Time:    time.Minute,
			Timeout: 20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTime, PermitWithoutStream: true}),
	)
}

// Serve answers gRPC calls on l until Shutdown. Call it once. It also watches the stores, and health says SERVING while
// they can be used.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	s.checkStores(watching, true)
	close(s.started)
	go s.watchStores(watching)
	go s.guard.Run(watching)
	go s.cfg.Log.flood.run(watching, s.cfg.Log.all)
	defer s.cfg.Log.flood.tell(ctx, s.cfg.Log.all)
	//nolint:contextcheck // a listener lives as long as the server
	if err := s.grpc.Serve(s.Bound(l, "grpc")); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// Bound returns a public listener with the limits on connections. The log and the metrics have its name. Call it once
// for each listener.
func (s *Server) Bound(l net.Listener, name string) net.Listener {
	limiter := inbound.NewLimiter(inbound.LimiterConfig{
		Most: cmp.Or(s.cfg.MaxConnections, math.MaxInt), MostPerAddress: cmp.Or(s.cfg.MaxConnectionsPerAddress, math.MaxInt),
		Proxies: s.cfg.TrustedProxies, ProxyProtocol: s.cfg.ProxyProtocol, Listener: name, Logger: s.log,
	})
	s.registerListener(name, limiter.Stats)
	return limiter.Listen(l)
}

// BoundOperations returns the operations listener with limits of its own, because it may listen on more than loopback.
func (s *Server) BoundOperations(l net.Listener) net.Listener {
	const name = "ops"
	limiter := inbound.NewLimiter(inbound.LimiterConfig{Most: opsConnections, MostPerAddress: opsPerAddress, Listener: name, Logger: s.log})
	s.registerListener(name, limiter.Stats)
	return limiter.Listen(l)
}

// WaitServing waits until Serve has asked the stores for the first time.
func (s *Server) WaitServing(ctx context.Context) error {
	select {
	case <-s.started:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown says NOT_SERVING, waits for delay so that load balancers notice, accepts no more calls and waits for running
// ones until ctx ends. pages serves Handler; nil: nothing does.
func (s *Server) Shutdown(ctx context.Context, delay time.Duration, pages *http.Server) {
	s.ready.stop()
	s.health.Shutdown()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	s.drain()
	var draining sync.WaitGroup
	if pages != nil {
		draining.Go(func() {
			if err := pages.Shutdown(ctx); err != nil {
				s.log.WarnContext(ctx, "HTTP requests cut off", "error", errors.Join(err, pages.Close()))
			}
		})
	}
	draining.Go(s.grpc.GracefulStop)
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	draining.Wait()
	stop()
	s.cfg.Afterwards.Wait()
}

// Handler serves the RPCs over HTTP, and the pages: the JWKS, discovery and health.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	jwks, documents := discoveryPaths(s.cfg.Keyring.Issuer())
	for _, path := range jwks {
		mux.HandleFunc("GET "+path, s.serveJWKS)
	}
	for _, path := range documents {
		mux.HandleFunc("GET "+path, s.serveDiscovery)
	}
	mux.HandleFunc("GET /openapi.json", serveOpenAPI)
	mux.HandleFunc("GET /healthz", serveHealthz)
	mux.HandleFunc("GET /readyz", s.serveReadyz)
	if s.cfg.AccountPages != nil {
		mux.Handle("/account/", s.cfg.AccountPages)
	}
	s.services.Mount(mux, overhttp.Config{
		Unary: s.cookies, Stream: s.aroundStream, MaxMessage: maxMessage, Around: s.forBrowsers(),
	})
	return mux
}
