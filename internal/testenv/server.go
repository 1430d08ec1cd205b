package testenv

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	pg "github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// The settings of a test's server that its options do not change. The lifetimes and the limit are the defaults of the
// settings.
const (
	Issuer         = "https://auth.example.com"
	Audience       = "latchkey"
	ResetURL       = "https://app.example.com/reset"
	VerifyURL      = "https://app.example.com/#/verify"
	EmailChangeURL = "https://app.example.com/#/email"
	AccessTokenTTL = 15 * time.Minute
	MaxAccessTTL   = 24 * time.Hour
	IdleTTL        = 168 * time.Hour
	MaxTTL         = 720 * time.Hour
	Grace          = 10 * time.Second
	ResetTTL       = 30 * time.Minute
	Lease          = 5 * time.Second
	SessionLimit   = 50

	// AdminKey and ServiceKey are the keys that every test's server knows.
	AdminKey   = "the admin key of a test's server"
	ServiceKey = "the service key of a test's server"

	// trustTime is how long a test waits until its server answers from memory.
	trustTime = 20 * time.Second
)

// Options change one server. The zero value starts a server with its own stores.
type Options struct {
	// DatabaseURL and RedisURL name stores that the test already has. With those of another server, this one becomes
	// its replica.
	DatabaseURL, RedisURL string
	// Clock is the server's. Nil: one that starts at the current second and does not move.
	Clock *Clock
	// Argon2 are the parameters of new hashes. Zero: cheap ones, since tests make many.
	Argon2 password.Params
	// HashSlots and HashQueue bound hashing. Zero: 2 and 1000.
	HashSlots, HashQueue int
	// BreachedPasswordsFile is the list of breached passwords. Zero: there is none.
	BreachedPasswordsFile string
	// AccountAudience turns account tokens on. Zero: there are none.
	AccountAudience string
	// Algorithm is the algorithm of signing keys. Zero: that of the keys in the database, and ES256 in a new one.
	Algorithm accesstoken.Algorithm
	// TokenType is "typ" of access tokens. Zero: at+jwt.
	TokenType string
	// Issuer is "iss" of access tokens. Zero: Issuer.
	Issuer string
	// Legacy makes the server accept the tokens of this backend. It uses the backend's stores, and migrates their
	// schema first.
	Legacy *ExistingBackend
	// LegacyUntil is for how long, counted from the clock's start. Zero: 90 days.
	LegacyUntil time.Duration
	// LegacySigningKey replaces the Go backend's key: access tokens are signed with it so that the backend accepts them
	// too. Needs Legacy.
	LegacySigningKey *rsa.PrivateKey
	// LegacyPublicKey replaces the Go backend's public key, and signs nothing. Needs Legacy.
	LegacyPublicKey *rsa.PublicKey
	// KeyRotation is the age at which Rotator.Tend rotates. Zero: it never does.
	KeyRotation time.Duration
	// AddressLimit bounds the calls of an address as the contract says. All of a test's calls come from one address.
	AddressLimit bool
	// TrustedProxies may name clients with x-forwarded-for.
	TrustedProxies []netip.Prefix
	// ProxyProtocol lets those proxies name clients with a PROXY header.
	ProxyProtocol bool
	// NewDeviceMails mails owners about logins from new devices. Most tests count other mails.
	NewDeviceMails bool
	// OperatorsPage is LATCHKEY_OPERATORS_PAGE, and "off" if it is empty.
	OperatorsPage string
	// WebOrigins are those of pages that may call over HTTP.
	WebOrigins []string
	// AccountPages serves the pages under /account/.
	AccountPages bool
	// ReturnURLs are those of apps that may get a session for an authorization code.
	ReturnURLs []string
	// WebCookies keeps their refresh tokens in cookies.
	WebCookies bool
	// MaxConnections bounds the gRPC listener's connections, MaxConnectionsPerAddress those of an address. Zero: no
	// bound.
	MaxConnections, MaxConnectionsPerAddress int
	// ArrivalTime is how long a message may take to arrive. Zero: the server's default.
	ArrivalTime time.Duration
	// ConnectionAge is the age at which clients are asked to connect again. Zero: the server's default.
	ConnectionAge time.Duration
	// TLS secures the gRPC listener, whose own client then cannot call it. Nil: plaintext.
	TLS *tls.Config
	// LogLines is how many lines of one kind are logged a second. Zero: all.
	LogLines int
	// PasskeyOrigins turns passkeys on, for the RP id PasskeyRPID.
	PasskeyOrigins []string
	// HideAccounts makes SignUp reveal to nobody whether an account exists.
	HideAccounts bool
	// EmailVerification is LATCHKEY_EMAIL_VERIFICATION. Zero: off, since most tests count other mails.
	EmailVerification string
	// DeletionGrace is how long an account can be kept after its deletion was asked for.
	DeletionGrace time.Duration
	// LoginByCode is LATCHKEY_LOGIN_BY_CODE.
	LoginByCode bool
	// SessionLimit is how many sessions an account can have. Zero: SessionLimit.
	SessionLimit int
	// ShortRefreshTokens makes the server issue only short refresh tokens.
	ShortRefreshTokens bool
	// Secret is the secret key, Previous the one before it. Zero: a fixed one.
	Secret, Previous string
	// Sender gets the mails. Nil: the mailbox.
	Sender mail.Sender
	// Lease is the replica's. Zero: the default of the settings.
	Lease time.Duration
	// WallClock gives the server the real clock. The lease needs that in a long test: with a clock that does not move
	// for 30 s, the server loses its lease.
	WallClock bool
	// Peppers are LATCHKEY_PASSWORD_PEPPERS.
	Peppers []string
	// CheckClock makes the server issue no tokens while its clock differs from PostgreSQL's.
	CheckClock bool
}

// PasskeyRPID is the domain of passkeys.
const PasskeyRPID = "example.com"

// Server is a running Latchkey with real stores and a real listener.
type Server struct {
	// Auth calls the server as a client does, over Conn.
	Auth latchkeyv1.AuthServiceClient
	// Admin does the same for operators: its calls need WithKey.
	Admin latchkeyv1.AdminServiceClient
	// SessionService does the same for the owners of sessions, with an access token.
	SessionService latchkeyv1.SessionServiceClient
	// AccountService does the same for the owners of accounts.
	AccountService latchkeyv1.AccountServiceClient
	Conn           *grpc.ClientConn
	// Addr is where gRPC listens, HTTP the base URL of the pages, Ops that of the operations listener.
	Addr, HTTP, Ops string
	// Clock is the server's.
	Clock *Clock
	// Mailbox holds the mails that were sent.
	Mailbox *mail.Mailbox
	// Logs is everything the server has logged, including debug lines.
	Logs *Logs
	// Metrics is the server's registry.
	Metrics *prometheus.Registry
	// Pool and Redis are the test's own connections to the stores.
	Pool  *pgxpool.Pool
	Redis redis.UniversalClient
	// DatabaseURL and RedisURL are the stores.
	DatabaseURL, RedisURL string
	// Keyring and Sessions are the server's, for tests that make tokens.
	Keyring  *signing.Keyring
	Sessions *session.Store
	// Ledger is the server's, which is running.
	Ledger *ledger.Ledger
	// Calls counts the server's calls to its stores.
	Calls *StoreCalls
	// Rotator rotates the signing keys. It does nothing unless the test calls it.
	Rotator *signing.Rotator
	// App is the service, for parts that the contract does not show.
	App *app.App
	// Server is the server of App.
	Server *server.Server

	now func() time.Time
}

// Migrate migrates a database to the newest schema, including the outbox's tables.
func Migrate(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = app.Schema(&config.Config{DatabaseURL: config.URL(url)}).Up(ctx, func(ctx context.Context) error { return app.AfterMigrations(ctx, pool) })
	return err
}

// Migrated returns the URL of a database with the newest schema that only this test uses.
func Migrated(t testing.TB) string {
	t.Helper()
	sum := sha256.New()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(content)
	}
	return Database(t, Migrate, hex.EncodeToString(sum.Sum(nil)))
}

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Clock: o.Clock, Logs: &Logs{}, Mailbox: mail.NewMailbox(1000, nil)}
	if s.Clock == nil {
		s.Clock = NewClock(time.Now().Truncate(time.Second))
	}
	s.now = s.Clock.Now
	if o.WallClock {
		s.now = time.Now
	}
	s.DatabaseURL, s.RedisURL = o.DatabaseURL, o.RedisURL
	if o.Legacy != nil && s.DatabaseURL == "" {
		s.DatabaseURL, s.RedisURL = o.Legacy.DatabaseURL, o.Legacy.RedisURL
		must(t, Migrate(t.Context(), s.DatabaseURL))
	}
	if s.DatabaseURL == "" {
		s.DatabaseURL = Migrated(t)
	}
	if s.RedisURL == "" {
		s.RedisURL = Redis(t)
	}
	s.Pool, s.Redis = openPool(t, s.DatabaseURL, nil), openRedis(t, s.RedisURL)
	s.run(t, o)
	return s
}

// settings returns the defaults of the settings, with the changes of the test's options.
func (s *Server) settings(t testing.TB, o Options) *config.Config {
	t.Helper()
	cfg, err := config.Load(nil, config.Tool)
	must(t, err)
	cfg.Issuer, cfg.AccountAudience = orElse(o.Issuer, Issuer), o.AccountAudience
	cfg.TokenAlgorithm, cfg.TokenType = string(o.Algorithm), orElse(o.TokenType, cfg.TokenType)
	cfg.KeyRotation = o.KeyRotation
	cfg.SecretKey = secretKey(o.Secret)
	if o.Previous != "" {
		cfg.SecretKeyPrevious = secretKey(o.Previous)
	}
	argon2 := orElse(o.Argon2, password.Params{MemoryKiB: 64, Time: 1, Threads: 1})
	cfg.Argon2MemoryKiB, cfg.Argon2Time, cfg.Argon2Threads = int(argon2.MemoryKiB), int(argon2.Time), int(argon2.Threads)
	cfg.HashSlots, cfg.HashQueue = orElse(o.HashSlots, 2), orElse(o.HashQueue, 1000)
	cfg.SessionLimit, cfg.ReplicaLease = orElse(o.SessionLimit, SessionLimit), orElse(o.Lease, Lease)
	cfg.CacheEntries, cfg.DatabaseMaxConns = 10_000, 10
	cfg.ResetURL, cfg.VerifyURL, cfg.EmailChangeURL = ResetURL, VerifyURL, EmailChangeURL
	cfg.EmailVerification, cfg.LoginByCode = orElse(o.EmailVerification, "off"), o.LoginByCode
	cfg.BreachedPasswordsFile, cfg.DeletionGrace = o.BreachedPasswordsFile, o.DeletionGrace
	cfg.AdminKeySHA256 = config.KeyHashes{sha256.Sum256([]byte(AdminKey))}
	cfg.ServiceKeySHA256 = config.KeyHashes{sha256.Sum256([]byte(ServiceKey))}
	cfg.Reflection, cfg.AddressRateLimit = true, o.AddressLimit
	cfg.WebOrigins, cfg.WebCookies, cfg.ReturnURLs = o.WebOrigins, o.WebCookies, o.ReturnURLs
	cfg.AccountPages = o.AccountPages
	cfg.OperatorsPage = orElse(o.OperatorsPage, "off")
	cfg.TrustedProxies, cfg.ProxyProtocol = o.TrustedProxies, o.ProxyProtocol
	cfg.MaxConnections, cfg.MaxConnectionsPerAddress = o.MaxConnections, o.MaxConnectionsPerAddress
	cfg.NewDeviceMails, cfg.HideAccounts = o.NewDeviceMails, o.HideAccounts
	if len(o.PasskeyOrigins) > 0 {
		cfg.PasskeyRPID, cfg.PasskeyOrigins = PasskeyRPID, o.PasskeyOrigins
	}
	cfg.LogLines, cfg.LongRefreshTokens = o.LogLines, !o.ShortRefreshTokens
	for _, pepper := range o.Peppers {
		cfg.PasswordPeppers = append(cfg.PasswordPeppers, []byte(pepper))
	}
	s.legacy(t, o, cfg)
	return cfg
}

// legacyFor is how long a test's server accepts tokens of an older backend.
const legacyFor = 90 * 24 * time.Hour

func (s *Server) legacy(t testing.TB, o Options, cfg *config.Config) {
	t.Helper()
	if o.Legacy == nil {
		return
	}
	cfg.LegacyEnabled = true
	cfg.LegacyAcceptUntil = s.now().Add(orElse(o.LegacyUntil, legacyFor))
	cfg.LegacyHS256Secret = []byte(o.Legacy.JWT.Rust.Secret)
	dir := t.TempDir()
	switch {
	case o.LegacySigningKey != nil:
		der, err := x509.MarshalPKCS8PrivateKey(o.LegacySigningKey)
		must(t, err)
		cfg.LegacyRS256PrivateKeyFile = writePEM(t, filepath.Join(dir, "private.pem"), "PRIVATE KEY", der)
	case o.LegacyPublicKey != nil:
		der, err := x509.MarshalPKIXPublicKey(o.LegacyPublicKey)
		must(t, err)
		cfg.LegacyRS256PublicKeyFile = writePEM(t, filepath.Join(dir, "public.pem"), "PUBLIC KEY", der)
	default:
		cfg.LegacyRS256PublicKeyFile = filepath.Join(dir, "public.pem")
		must(t, os.WriteFile(cfg.LegacyRS256PublicKeyFile, o.Legacy.PublicKey, 0o600))
	}
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// run serves with internal/app, as a released program does, until the test ends.
func (s *Server) run(t testing.TB, o Options) {
	t.Helper()
	s.Calls = &StoreCalls{}
	pool, client := openPool(t, s.DatabaseURL, s.Calls), openRedis(t, s.RedisURL)
	client.AddHook(s.Calls)
	cfg := s.settings(t, o)
	log := slog.New(slog.NewJSONHandler(s.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(t.Context(), app.Config{
		Settings: cfg, Stores: &app.Stores{Pool: pool, Redis: client}, Sender: orElse[mail.Sender](o.Sender, s.Mailbox), Logger: log,
		Overrides: app.Overrides{
			Now: s.now, CheckClock: o.CheckClock, NoUpkeep: true, TLS: o.TLS, ArrivalTime: o.ArrivalTime, ConnectionAge: o.ConnectionAge,
		},
	})
	must(t, err)
	s.Sessions, s.Keyring, s.Rotator, s.Ledger, s.Server, s.Metrics = a.Sessions, a.Keyring, a.Rotator, a.Ledger, a.Server, a.Metrics
	s.App = a
	cfg.GRPCAddr, cfg.HTTPAddr, cfg.OpsAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	l, err := app.Listen(t.Context(), cfg)
	must(t, err)
	running, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- a.Run(running, l, a.Server.Handler(), onWrite(func() { close(ready) })) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("testenv: serve: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-served:
		served <- err
		t.Fatalf("testenv: the server did not start: %v", err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), trustTime)
	defer cancel()
	must(t, s.Ledger.WaitTrusted(waiting)) // so that tests get answers from memory
	s.Addr, s.HTTP, s.Ops = l.GRPC.Addr().String(), "http://"+l.HTTP.Addr().String(), "http://"+l.Ops.Addr().String()
	s.Conn = Dial(t, s.Addr)
	s.Auth, s.Admin = latchkeyv1.NewAuthServiceClient(s.Conn), latchkeyv1.NewAdminServiceClient(s.Conn)
	s.SessionService, s.AccountService = latchkeyv1.NewSessionServiceClient(s.Conn), latchkeyv1.NewAccountServiceClient(s.Conn)
}

// onWrite is called for the only write of App.Run: the ready line.
type onWrite func()

// Write implements io.Writer.
func (w onWrite) Write(p []byte) (int, error) {
	w()
	return len(p), nil
}

// WithKey returns ctx for a call with a key or an access token.
func WithKey(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// Dial connects to a server until the test ends.
func Dial(t testing.TB, addr string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient("passthrough:///"+addr, options...)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func openPool(t testing.TB, url string, tracer pgx.QueryTracer) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), pg.Config{URL: url, MaxConns: 10, Tracer: tracer})
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func openRedis(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	var parsed config.RedisURL
	must(t, parsed.UnmarshalText([]byte(url)))
	client := parsed.Client()
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func secretKey(secret string) []byte {
	sum := sha256.Sum256([]byte("a test's secret key " + secret))
	return sum[:]
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
}

// Logs collects log lines.
type Logs struct {
	mu      sync.Mutex
	text    bytes.Buffer
	discard bool
}

// Discard drops all log lines from now on, for benchmarks.
func (l *Logs) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.discard = true
}

// Write implements io.Writer.
func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.discard {
		return len(p), nil
	}
	return l.text.Write(p)
}

// Bytes returns everything that was logged so far.
func (l *Logs) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text.Bytes())
}
