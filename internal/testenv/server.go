package testenv

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
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
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	pg "github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// What a test's server uses where its options say nothing. The lifetimes and the
// limit are the defaults of the settings.
const (
	Issuer         = "https://auth.example.com"
	Audience       = "latchkey"
	ResetURL       = "https://app.example.com/reset"
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

	stopTime = 20 * time.Second
)

// Options change one server. The zero value starts one on stores of its own.
type Options struct {
	// DatabaseURL and RedisURL name stores that the test already has: those of
	// another server make this one its replica.
	DatabaseURL, RedisURL string
	// Clock is the server's. Nil: one that starts at the present second and stands
	// still.
	Clock *Clock
	// Argon2 are the parameters of new hashes. Zero: cheap ones, tests have many.
	Argon2 password.Params
	// HashSlots and HashQueue bound hashing. Zero: 2 and 1000.
	HashSlots, HashQueue int
	// AccountAudience sets account tokens apart. Zero: it does not.
	AccountAudience string
	// Algorithm is what signing keys are for. Zero: what those of the database are for, ES256 in a new one.
	Algorithm token.Algorithm
	// TokenType is "typ" of access tokens. Zero: at+jwt.
	TokenType string
	// Issuer is "iss" of access tokens. Zero: Issuer.
	Issuer string
	// Legacy makes the server honour what this backend handed out, on its stores,
	// whose schema is brought up to date first.
	Legacy *ExistingBackend
	// LegacyUntil is how long, counted from the clock's start. Zero: 90 days.
	LegacyUntil time.Duration
	// LegacySigningKey takes the place of the Go backend's key: access tokens are signed
	// with it so that the backend accepts them too. Needs Legacy.
	LegacySigningKey *rsa.PrivateKey
	// LegacyPublicKey takes the place of the Go backend's public key, and signs nothing.
	// Needs Legacy.
	LegacyPublicKey *rsa.PublicKey
	// KeyRotation is the age at which Rotator.Tend rotates. Zero: it never does.
	KeyRotation time.Duration
	// AddressLimit bounds the calls of an address as the contract says. All of a test's
	// calls come from one.
	AddressLimit bool
	// TrustedProxies may name clients by x-forwarded-for.
	TrustedProxies []netip.Prefix
	// ProxyProtocol lets those name clients by a PROXY header.
	ProxyProtocol bool
	// NewDeviceMails tells owners of logins from new devices. Most tests count other mails.
	NewDeviceMails bool
	// MaxConnections bounds the gRPC listener's connections, MaxConnectionsPerAddress those
	// of an address. Zero: nothing does.
	MaxConnections, MaxConnectionsPerAddress int
	// ArrivalTime is how long a message may take to arrive. Zero: the server's default.
	ArrivalTime time.Duration
	// ConnectionAge is when clients are asked to dial again. Zero: the server's default.
	ConnectionAge time.Duration
	// TLS secures the gRPC listener, whose own client then cannot call it. Nil: plaintext.
	TLS *tls.Config
	// LogLines is how many lines of one kind are logged a second. Zero: all.
	LogLines int
	// HideAccounts has SignUp tell nobody who has an account.
	HideAccounts bool
	// SessionLimit is how many sessions an account can have. Zero: SessionLimit.
	SessionLimit int
	// Secret is the secret key, Previous the one before it. Zero: a fixed one.
	Secret, Previous string
	// Sender gets the mails. Nil: the mailbox.
	Sender mail.Sender
	// Lease is the replica's. Zero: the default of the settings.
	Lease time.Duration
	// WallClock runs the server by the real clock, as the lease on its memory needs it
	// when a test lasts: a clock that stands still for 30 s loses it.
	WallClock bool
	// CheckClock has the server issue no tokens while its clock is not PostgreSQL's.
	CheckClock bool
}

// Server is a running Latchkey: real stores, a real listener.
type Server struct {
	// Auth calls the server as a client would, over Conn.
	Auth latchkeyv1.AuthServiceClient
	// Admin does the same for operators: its calls need WithKey.
	Admin latchkeyv1.AdminServiceClient
	// SessionService does the same for the owners of sessions, with an access token.
	SessionService latchkeyv1.SessionServiceClient
	Conn           *grpc.ClientConn
	// Addr is where gRPC listens, HTTP the base URL of the pages.
	Addr, HTTP string
	// Clock is the server's.
	Clock *Clock
	// Mailbox holds what was sent.
	Mailbox *mail.Mailbox
	// Logs is everything the server has logged, from debug on.
	Logs *Logs
	// Metrics is the server's registry.
	Metrics *prometheus.Registry
	// Pool and Redis are the test's own connections to the stores.
	Pool  *pgxpool.Pool
	Redis redis.UniversalClient
	// DatabaseURL and RedisURL are the stores.
	DatabaseURL, RedisURL string
	// Keyring and Sessions are the server's, for tests that make tokens.
	Keyring  *token.Keyring
	Sessions *session.Store
	// Ledger is the server's, and runs.
	Ledger *ledger.Ledger
	// Calls counts what the server asks its stores.
	Calls *StoreCalls
	// Rotator moves the signing keys. It does nothing unless the test calls it.
	Rotator *token.Rotator
	// Server is the thing itself.
	Server *server.Server

	now     func() time.Time
	started time.Time
}

// Migrate brings a database to the newest schema, the outbox's tables included.
func Migrate(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pg.Migrations{URL: url, FS: migrations.FS}.Up(ctx, func(ctx context.Context) error {
		if err := mail.Migrate(ctx, pool); err != nil {
			return err
		}
		_, err := address.Fill(ctx, pool)
		return err
	})
	return err
}

// Migrated returns the URL of a database with the newest schema that only this test
// uses.
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
	s := &Server{Clock: o.Clock, Logs: &Logs{}, Mailbox: mail.NewMailbox(1000, nil), Metrics: prometheus.NewRegistry()}
	if s.Clock == nil {
		s.Clock = NewClock(time.Now().Truncate(time.Second))
	}
	s.now = s.Clock.Now
	if o.WallClock {
		s.now = time.Now
	}
	s.started = s.now()
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
	outbox := s.wire(t, o)
	s.listen(t, outbox)
	return s
}

// wire builds the server as cmd/latchkey does, with the test's clock and cheap
// hashes.
func (s *Server) wire(t testing.TB, o Options) *mail.Outbox {
	t.Helper()
	s.Calls = &StoreCalls{}
	pool, client := openPool(t, s.DatabaseURL, s.Calls), openRedis(t, s.RedisURL)
	client.AddHook(s.Calls)
	log := slog.New(slog.NewJSONHandler(s.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	secrets := [][]byte{secretKey(o.Secret)}
	if o.Previous != "" {
		secrets = append(secrets, secretKey(o.Previous))
	}
	hasher, err := password.New(password.Config{
		Params: orElse(o.Argon2, password.Params{MemoryKiB: 64, Time: 1, Threads: 1}),
		Slots:  orElse(o.HashSlots, 2), Queue: orElse(o.HashQueue, 1000), DecoyKey: secrets[0], Now: time.Now,
	})
	must(t, err)
	s.Sessions, err = session.New(session.Config{
		Redis: client, MACKeys: secrets, IdleTTL: IdleTTL, MaxTTL: MaxTTL, Grace: Grace,
		Limit: orElse(o.SessionLimit, SessionLimit), Now: s.now,
	})
	must(t, err)
	former, takenOver := s.legacy(t, o, client)
	s.Keyring, err = token.Open(t.Context(), token.Config{
		Issuer: orElse(o.Issuer, Issuer), Audience: Audience, AccountAudience: o.AccountAudience, ClientID: "latchkey", Type: o.TokenType, Algorithm: o.Algorithm, Former: former,
		Store: server.KeyStore{Pool: pool}, SealKeys: secrets, MaxTTL: MaxAccessTTL, Now: s.now,
	})
	must(t, err)
	s.Rotator, err = token.NewRotator(token.RotatorConfig{
		Store: server.KeyStore{Pool: pool}, SealKeys: secrets, Algorithm: o.Algorithm,
		Period: o.KeyRotation, MaxTTL: MaxAccessTTL, Now: s.now,
	})
	must(t, err)
	outbox, err := mail.New(mail.Config{
		Pool: pool, Accounts: server.Resets{Pool: pool, TTL: ResetTTL, Key: secrets[0], Now: s.now},
		Sender: orElse[mail.Sender](o.Sender, s.Mailbox), ResetURL: ResetURL, ResetTTL: ResetTTL, Logger: log, Now: s.now,
	})
	must(t, err)
	failures, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: client, Name: "login", Key: secrets[0], Limit: 5, Window: 15 * time.Minute, Now: s.now,
	})
	must(t, err)
	resets, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: client, Name: "reset", Key: secrets[0], Limit: 5, Window: 15 * time.Minute, Now: s.now,
	})
	must(t, err)
	devices, err := device.New(secrets, s.now)
	must(t, err)
	rates, err := ratelimit.NewGCRA(ratelimit.GCRAConfig{Redis: client, Now: s.now})
	must(t, err)
	memory, err := server.NewMemory(server.MemoryConfig{Pool: pool, Keyring: s.Keyring, Entries: 10_000, Legacy: takenOver, Logger: log})
	must(t, err)
	s.Ledger, err = ledger.New(ledger.Config{
		Pool: pool, Lease: orElse(o.Lease, Lease), SessionLife: MaxTTL, AccessLife: AccessTokenTTL, LegacyUntil: s.legacyUntil(o),
		Followers: []ledger.Follower{memory}, Logger: log, Now: s.now,
	})
	must(t, err)
	var clockRight func() bool
	if o.CheckClock {
		clockRight = s.Ledger.ClockRight
	}
	s.Server, err = server.New(server.Config{
		Legacy: takenOver,
		Pool:   pool, Redis: client, Ledger: s.Ledger, Memory: memory, Sessions: s.Sessions, Keyring: s.Keyring, Passwords: hasher,
		PasswordPolicy: password.Policy{MinLength: 8, Service: []string{Issuer, ResetURL}}, LoginFailures: failures, ResetRequests: resets,
		Rates: rates, AddressLimit: o.AddressLimit, Devices: devices, NewDeviceMails: o.NewDeviceMails, HideAccounts: o.HideAccounts,
		Mailer: outbox, AccessTokenTTL: AccessTokenTTL, ClientID: "latchkey", PageTokenKey: secrets[0],
		AdminKeys: [][sha256.Size]byte{sha256.Sum256([]byte(AdminKey))}, ServiceKeys: [][sha256.Size]byte{sha256.Sum256([]byte(ServiceKey))},
		Reflection: true, TrustedProxies: o.TrustedProxies, ProxyProtocol: o.ProxyProtocol, TLS: o.TLS, ArrivalTime: o.ArrivalTime, ConnectionAge: o.ConnectionAge,
		MaxConnections: o.MaxConnections, MaxConnectionsPerAddress: o.MaxConnectionsPerAddress, Metrics: s.Metrics, Logger: log, LogLines: o.LogLines, Now: s.now,
		ClockRight: clockRight,
	})
	must(t, err)
	return outbox
}

// legacyFor is how long a test's server accepts tokens of an existing backend.
const legacyFor = 90 * 24 * time.Hour

func (s *Server) legacyUntil(o Options) time.Time {
	if o.Legacy == nil {
		return time.Time{}
	}
	return s.started.Add(orElse(o.LegacyUntil, legacyFor))
}

func (s *Server) legacy(t testing.TB, o Options, client redis.UniversalClient) (*token.FormerKey, *server.Legacy) {
	t.Helper()
	if o.Legacy == nil {
		return nil, nil
	}
	former := &token.FormerKey{Issuer: legacy.Issuer, Public: o.LegacyPublicKey, Private: o.LegacySigningKey, Until: s.legacyUntil(o)}
	var err error
	switch {
	case former.Private != nil:
		former.Public = &former.Private.PublicKey
	case former.Public == nil:
		former.Public, err = legacy.ParsePublicKey(o.Legacy.PublicKey)
		must(t, err)
	}
	tokens, err := legacy.NewTokens(legacy.TokensConfig{
		RS256: former.Public, HS256: []byte(o.Legacy.JWT.Rust.Secret), AcceptUntil: former.Until, Now: s.now,
	})
	must(t, err)
	return former, &server.Legacy{Tokens: tokens, Store: legacy.NewStore(client)}
}

func (s *Server) listen(t testing.TB, outbox *mail.Outbox) {
	t.Helper()
	must(t, outbox.Start(t.Context()))
	leave := s.follow(t)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	background := context.WithoutCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Server.Serve(background, l) }()
	must(t, s.Server.WaitServing(t.Context()))
	pages := httptest.NewServer(s.Server.Handler())
	s.Addr, s.HTTP = l.Addr().String(), pages.URL
	s.Conn = Dial(t, s.Addr)
	s.Auth, s.Admin = latchkeyv1.NewAuthServiceClient(s.Conn), latchkeyv1.NewAdminServiceClient(s.Conn)
	s.SessionService = latchkeyv1.NewSessionServiceClient(s.Conn)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(background, stopTime)
		defer cancel()
		pages.Close()
		s.Server.Shutdown(ctx, 0)
		if err := <-served; err != nil {
			t.Errorf("testenv: serve: %v", err)
		}
		if err := outbox.Stop(ctx); err != nil {
			t.Errorf("testenv: stop the outbox: %v", err)
		}
		leave()
	})
}

// follow runs the ledger until leave is called.
func (s *Server) follow(t testing.TB) (leave func()) {
	t.Helper()
	following, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	left := make(chan struct{})
	go func() {
		defer close(left)
		s.Ledger.Run(following)
	}()
	waiting, cancel := context.WithTimeout(following, stopTime)
	defer cancel()
	if err := s.Ledger.WaitTrusted(waiting); err != nil {
		t.Errorf("testenv: the ledger is not followed: %v", err)
	}
	return func() {
		stop()
		<-left
	}
}

// WithKey is ctx for a call that shows a key or an access token.
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

// Logs collects what is logged.
type Logs struct {
	mu      sync.Mutex
	text    bytes.Buffer
	discard bool
}

// Discard keeps nothing from now on, for benchmarks.
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

// Bytes is all that was logged so far.
func (l *Logs) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text.Bytes())
}
