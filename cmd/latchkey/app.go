package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/server"
)

const (
	// failuresAllowed in failureWindow, for logins and for requests of reset mails:
	// what the backends that Latchkey takes over from allow.
	failuresAllowed = 5
	failureWindow   = 15 * time.Minute
	// maxAccessLife is the longest that LATCHKEY_ACCESS_TOKEN_TTL can be set to:
	// tokens issued under an earlier, longer setting stay good.
	maxAccessLife = 24 * time.Hour
	// queuePerSlot makes a full queue about a second of work at 22 ms a hash.
	queuePerSlot = 32
	// decoyEvery is how often the parameters of stored hashes are counted.
	decoyEvery = 10 * time.Minute
	// keysEvery is how late keys move on, and how long a key that another replica made
	// may be missing from the JWKS here. Tokens signed with it are accepted at once.
	keysEvery = 30 * time.Second
	// keysTime is what one round of that may take, should PostgreSQL hang.
	keysTime   = 10 * time.Second
	subkeySize = 32
)

// app is the service with everything it runs on, wired and not yet listening.
type app struct {
	cfg      *config.Config
	log      *slog.Logger
	stores   *stores
	hasher   *password.Hasher
	keyring  *token.Keyring
	rotator  *token.Rotator
	ledger   *ledger.Ledger
	tls      *certificate // of both public listeners; nil: plaintext
	outbox   *mail.Outbox
	eviction *evictionWatch
	server   *server.Server
	ops      *prometheus.Registry
}

// newApp reads top to bottom: stores, leaf packages, server.
func newApp(ctx context.Context, cfg *config.Config, log *slog.Logger, st *stores, sender mail.Sender) (*app, error) {
	a := &app{cfg: cfg, log: log, stores: st, ops: prometheus.NewRegistry()}
	a.ops.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	keys, err := deriveKeys(cfg)
	if err != nil {
		return nil, err
	}
	old, err := newFormerBackends(cfg, st.redis)
	if err != nil {
		return nil, err
	}
	slots, queue := hashLimits(cfg)
	a.hasher, err = password.New(password.Config{
		Params: hashParams(cfg), Slots: slots, Queue: queue, DecoyKey: keys.decoy, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	sessions, err := session.New(session.Config{
		Redis: st.redis, MACKeys: keys.refreshMAC, IdleTTL: cfg.SessionIdleTTL, MaxTTL: cfg.SessionMaxTTL,
		Grace: cfg.RefreshGrace, Limit: cfg.SessionLimit, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	keyring, err := token.Open(ctx, token.Config{
		Issuer: cfg.Issuer, Audience: cfg.Audience, AccountAudience: cfg.AccountAudience, ClientID: cfg.ClientID,
		Type: cfg.TokenType, Algorithm: token.Algorithm(cfg.TokenAlgorithm),
		Former: old.former, Store: server.KeyStore{Pool: st.pool}, SealKeys: keys.seal, MaxTTL: maxAccessLife, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	a.keyring = keyring
	a.rotator, err = newRotator(cfg, keys, st.pool)
	if err != nil {
		return nil, err
	}
	a.outbox, err = a.newOutbox(keys, sender)
	if err != nil {
		return nil, err
	}
	a.eviction, err = newEvictionWatch(st.redis, log, a.ops)
	if err != nil {
		return nil, err
	}
	memory, err := server.NewMemory(server.MemoryConfig{
		Pool: st.pool, Keyring: keyring, Entries: cfg.CacheEntries, Legacy: old.legacy, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	a.ledger, err = ledger.New(ledger.Config{
		Pool: st.pool, Direct: st.direct, Lease: cfg.ReplicaLease, SessionLife: cfg.SessionMaxTTL, AccessLife: cfg.AccessTokenTTL,
		LegacyUntil: old.until, Followers: []ledger.Follower{memory}, Logger: log, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	a.server, err = a.newServer(keys, sessions, memory, old.legacy)
	return a, err
}

// newRotator works on the keys that token.Open reads.
func newRotator(cfg *config.Config, keys *subkeys, pool *pgxpool.Pool) (*token.Rotator, error) {
	return token.NewRotator(token.RotatorConfig{
		Store: server.KeyStore{Pool: pool}, SealKeys: keys.seal, Algorithm: token.Algorithm(cfg.TokenAlgorithm),
		Period: cfg.KeyRotation, MaxTTL: maxAccessLife, Now: time.Now,
	})
}

func (a *app) newOutbox(keys *subkeys, sender mail.Sender) (*mail.Outbox, error) {
	cfg := a.cfg
	upkeep := server.Upkeep{Pool: a.stores.pool, AuditRetention: cfg.AuditRetention, Now: time.Now}
	templates, err := mailTemplates(cfg)
	if err != nil {
		return nil, err
	}
	outbox, err := mail.New(mail.Config{
		Templates: templates,
		Pool:      a.stores.pool,
		PollOnly:  a.stores.pooler == postgres.TransactionPooler, // it would hear nothing
		Accounts:  server.Resets{Pool: a.stores.pool, TTL: cfg.ResetTokenTTL, Key: keys.resetLink, Now: time.Now},
		Sender:    sender, ResetURL: cfg.ResetURL, InsecureLinks: cfg.InsecureLinks, ResetTTL: cfg.ResetTokenTTL, ProductName: productName(cfg),
		Sweep: upkeep.Sweep, Logger: a.log, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	return outbox, a.registerOutbox(outbox)
}

func (a *app) newServer(keys *subkeys, sessions *session.Store, memory *server.Memory, old *server.Legacy) (*server.Server, error) {
	cfg, st := a.cfg, a.stores
	failures, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: st.redis, Name: "login", Key: keys.attempts, Limit: failuresAllowed, Window: failureWindow, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	resets, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: st.redis, Name: "reset", Key: keys.attempts, Limit: failuresAllowed, Window: failureWindow, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	devices, err := device.New(keys.device, time.Now)
	if err != nil {
		return nil, err
	}
	rates, err := ratelimit.NewGCRA(ratelimit.GCRAConfig{Redis: st.redis, Now: time.Now})
	if err != nil {
		return nil, err
	}
	a.tls, err = loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	if err := a.tls.register(a.ops); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return server.New(server.Config{
		Pool: st.pool, Redis: st.redis, Ledger: a.ledger, Memory: memory,
		Sessions: sessions, Keyring: a.keyring, Passwords: a.hasher,
		PasswordPolicy: password.Policy{MinLength: cfg.PasswordMinLength, Service: serviceWords(cfg)},
		LoginFailures:  failures, ResetRequests: resets, Rates: rates, AddressLimit: cfg.AddressRateLimit, Mailer: a.outbox,
		Devices: devices, NewDeviceMails: cfg.NewDeviceMails, HideAccounts: cfg.HideAccounts,
		AccessTokenTTL: cfg.AccessTokenTTL, ClientID: cfg.ClientID,
		PageTokenKey: keys.pageToken, AdminKeys: cfg.AdminKeySHA256, ServiceKeys: cfg.ServiceKeySHA256,
		Legacy: old, TLS: a.tls.config(), Reflection: cfg.Reflection, TrustedProxies: cfg.TrustedProxies, ProxyProtocol: cfg.ProxyProtocol,
		MaxConnections: cfg.MaxConnections, MaxConnectionsPerAddress: cfg.MaxConnectionsPerAddress,
		Metrics: a.ops, Logger: a.log, LogLines: cfg.LogLines, Now: time.Now, ClockRight: a.ledger.ClockRight, Warnings: a.tls.warnings,
	})
}

// serviceWords are what a stranger knows the service by, and guesses passwords with.
func serviceWords(cfg *config.Config) []string {
	return []string{cfg.Issuer, cfg.Audience, cfg.ClientID, cfg.MailFrom, cfg.ResetURL}
}

func hashLimits(cfg *config.Config) (slots, queue int) {
	slots, queue = cfg.HashSlots, cfg.HashQueue
	if slots == 0 {
		slots = runtime.GOMAXPROCS(0)
	}
	if queue == 0 {
		queue = queuePerSlot * slots
	}
	return slots, queue
}

// subkeys are what is derived from LATCHKEY_SECRET_KEY, each for one use. The
// first of a list belongs to the present key, the second to the previous one.
type subkeys struct {
	refreshMAC [][]byte
	seal       [][]byte
	device     [][]byte
	decoy      []byte
	attempts   []byte
	pageToken  []byte
	resetLink  []byte
}

// deriveKeys uses HKDF (RFC 5869) with one label for each use. The labels are part
// of what is stored and handed out: change none.
func deriveKeys(cfg *config.Config) (*subkeys, error) {
	if len(cfg.SecretKey) == 0 {
		return nil, config.Reject("LATCHKEY_SECRET_KEY", "is not set")
	}
	var keys subkeys
	var failed error
	derive := func(secret []byte, label string) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "latchkey "+label, subkeySize)
		failed = errors.Join(failed, err)
		return key
	}
	secrets := [][]byte{cfg.SecretKey}
	if len(cfg.SecretKeyPrevious) > 0 {
		secrets = append(secrets, cfg.SecretKeyPrevious)
	}
	for _, secret := range secrets {
		keys.refreshMAC = append(keys.refreshMAC, derive(secret, "refresh token mac"))
		keys.seal = append(keys.seal, derive(secret, "signing key seal"))
		keys.device = append(keys.device, derive(secret, "device token"))
	}
	keys.decoy = derive(cfg.SecretKey, "password decoy")
	keys.attempts = derive(cfg.SecretKey, "attempt counter")
	keys.pageToken = derive(cfg.SecretKey, "page token")
	keys.resetLink = derive(cfg.SecretKey, "reset link")
	return &keys, failed
}

// registerOutbox reports the mails that wait. One cheap query when metrics are
// scraped.
func (a *app) registerOutbox(outbox *mail.Outbox) error {
	err := a.ops.Register(&outboxCollector{
		outbox:  outbox,
		pending: prometheus.NewDesc("latchkey_mail_pending", "Mails that wait to be sent.", nil, nil),
		failing: prometheus.NewDesc("latchkey_mail_failing", "Mails among them whose sending failed before.", nil, nil),
		oldest:  prometheus.NewDesc("latchkey_mail_oldest_seconds", "How long the oldest of them has waited.", nil, nil),
	})
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

type outboxCollector struct {
	outbox                   *mail.Outbox
	pending, failing, oldest *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *outboxCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.pending
	descs <- c.failing
	descs <- c.oldest
}

// Collect implements prometheus.Collector.
func (c *outboxCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	stats, err := c.outbox.Stats(ctx)
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(c.pending, err)
		return
	}
	metrics <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(stats.Pending))
	metrics <- prometheus.MustNewConstMetric(c.failing, prometheus.GaugeValue, float64(stats.Failing))
	metrics <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, stats.Oldest.Seconds())
}
