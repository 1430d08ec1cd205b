// Package app builds the service from the settings, and runs it. It is the only place that does: serve, dev,
// all tests and the benchmarks use it.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/passkey"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/seal"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/signingstore"
	"github.com/latchkey-auth/latchkey/internal/validate"
	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/server/admin"
	"github.com/latchkey-auth/latchkey/server/auth"
	"github.com/latchkey-auth/latchkey/server/page"
)

const (
	// failuresAllowed is how many failed logins, and how many requests of reset mails, are allowed in
	// failureWindow. The older backends allow the same.
	failuresAllowed = 5
	failureWindow   = 15 * time.Minute
	// maxAccessLife is the largest value of LATCHKEY_ACCESS_TOKEN_TTL. Tokens that were issued under an
	// earlier, longer setting remain valid.
	maxAccessLife = 24 * time.Hour
	// queuePerSlot makes a full queue about 0.2 s of work at 7 ms for each hash, and 0.7 s without AVX2.
	queuePerSlot = 32
	// decoyEvery is how often a replica reads the counts of the kinds and parameters of the stored hashes. If they are
	// older than decoysFresh, it counts anew: about a second, so not each replica does it each time.
	decoyEvery  = 10 * time.Minute
	decoysFresh = 5 * time.Minute
	// keysEvery is how late a signing key can change its state, and how long a key of another replica can be
	// missing from the JWKS of this one. Tokens that such a key has signed are accepted at once.
	keysEvery = 30 * time.Second
	// keysTime bounds one such round, in case PostgreSQL hangs.
	keysTime   = 10 * time.Second
	subkeySize = 32
)

// Config says what a service is built from.
type Config struct {
	// Settings are those of the operator.
	Settings *config.Config
	// Stores are open. The caller closes them after Run has returned.
	Stores *Stores
	// Sender sends the mails.
	Sender mail.Sender
	Logger *slog.Logger
	// LocalPages lets all pages of this machine call over HTTP, on any port.
	LocalPages bool
	// Version is shown to operators. Optional.
	Version string
	// Overrides change what no setting can. The zero value changes nothing.
	Overrides Overrides
}

// Overrides are for tests and benchmarks.
type Overrides struct {
	// Now is the clock. Nil means the real one. The hasher always uses the real one, because it measures how
	// long hashes take.
	Now func() time.Time
	// CheckClock compares Now with PostgreSQL's clock, as the service does with the real clock.
	CheckClock bool
	// NoUpkeep means that the caller rotates signing keys and counts the kinds of stored hashes.
	NoUpkeep bool
	// TLS replaces the certificate of the settings on the gRPC listener. Nil means the settings.
	TLS *tls.Config
	// ArrivalTime is how long a message may take to arrive, and ConnectionAge how old a connection may become
	// before its client must connect again. Zero means the default of server.Config.
	ArrivalTime, ConnectionAge time.Duration
}

// App is the service with everything that it consists of. The fields are for tests that look at more than the
// contract.
type App struct {
	Sessions *session.Store
	Keyring  *signing.Keyring
	Rotator  *signing.Rotator
	Ledger   *ledger.Ledger
	Server   *server.Server
	Metrics  *prometheus.Registry
	Accounts *account.Accounts
	Auth     *auth.Service
	Admin    *admin.Service
	Pages    page.Tokens

	cfg         *config.Config
	log         *slog.Logger
	stores      *Stores
	now         func() time.Time
	overrides   Overrides
	localPages  bool
	version     string
	hasher      *password.Hasher
	peppers     []password.Pepper
	sealer      *seal.Sealer // of seeds and keys of second factors
	policy      password.Policy
	passkeys    *passkey.Party // nil: none
	certificate *certificate   // of both public listeners; nil means plaintext
	jobs        *jobs.Queue
	outbox      *mail.Outbox
	eviction    *evictionWatch

	// peppersChecked says whether the start has checked them.
	peppersChecked bool
}

// New builds the service and starts nothing; Run does. It reads from top to bottom: keys, leaf packages,
// server.
func New(ctx context.Context, c Config) (*App, error) {
	a := &App{
		cfg: c.Settings, log: c.Logger, stores: c.Stores, overrides: c.Overrides, localPages: c.LocalPages, version: c.Version,
		now: c.Overrides.Now, Metrics: prometheus.NewRegistry(),
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	keys, err := deriveKeys(a.cfg)
	if err != nil {
		return nil, err
	}
	older, err := newOlder(a.cfg, a.stores.Redis, a.now)
	if err != nil {
		return nil, err
	}
	if err := a.newLeaves(ctx, keys, older); err != nil {
		return nil, err
	}
	a.jobs, err = a.newJobs()
	if err != nil {
		return nil, err
	}
	a.outbox, err = a.newOutbox(keys, c.Sender)
	if err != nil {
		return nil, err
	}
	cached := validate.CacheConfig{Pool: a.stores.Pool, Keyring: a.Keyring, Entries: a.cfg.CacheEntries, Logger: a.log}
	older.hookCache(&cached)
	cache, err := validate.NewCache(cached)
	if err != nil {
		return nil, err
	}
	a.Ledger, err = ledger.New(ledger.Config{
		Pool: a.stores.Pool, Direct: a.stores.Direct, Lease: a.cfg.ReplicaLease, SessionLife: a.cfg.SessionMaxTTL, AccessLife: a.cfg.AccessTokenTTL,
		LegacyUntil: older.until, Followers: []ledger.Follower{cache}, Logger: a.log, Now: a.now,
	})
	if err != nil {
		return nil, err
	}
	return a, a.newServer(keys, cache, older)
}

// newLeaves builds what needs only keys and stores: hashing, sessions and signing keys.
func (a *App) newLeaves(ctx context.Context, keys *subkeys, older *older) (err error) {
	cfg := a.cfg
	slots, queue := hashLimits(cfg)
	if a.peppers, err = newPeppers(cfg.PasswordPeppers); err != nil {
		return err
	}
	a.hasher, err = password.New(password.Config{ //nolint:contextcheck // New measures the machine: milliseconds
		Params: hashParams(cfg), Slots: slots, Queue: queue, DecoyKey: keys.decoy, Peppers: a.peppers, Now: time.Now,
	})
	if err != nil {
		return err
	}
	if a.sealer, err = seal.New(factors.SealLabel, keys.factors); err != nil {
		return err
	}
	if cfg.PasskeyRPID != "" {
		if a.passkeys, err = passkey.New(cfg.PasskeyRPID, ProductName(cfg), cfg.PasskeyOrigins); err != nil {
			return err
		}
	}
	if a.policy, err = newPolicy(cfg); err != nil {
		return err
	}
	a.Sessions, err = session.New(session.Config{
		Redis: a.stores.Redis, MACKeys: keys.refreshMAC, IdleTTL: cfg.SessionIdleTTL, MaxTTL: cfg.SessionMaxTTL,
		Grace: cfg.RefreshGrace, Limit: cfg.SessionLimit, Now: a.now,
		Long: func() bool { return cfg.LongRefreshTokens && a.Ledger.ReadLong() },
	})
	if err != nil {
		return err
	}
	a.Keyring, err = signing.Open(ctx, signing.Config{
		Issuer: cfg.Issuer, Audience: cfg.Audience, AccountAudience: cfg.AccountAudience, ClientID: cfg.ClientID,
		Type: cfg.TokenType, Algorithm: accesstoken.Algorithm(cfg.TokenAlgorithm),
		Older: older.key, Store: signingstore.Store{Pool: a.stores.Pool}, SealKeys: keys.seal, MaxTTL: maxAccessLife, Now: a.now,
	})
	if err != nil {
		return err
	}
	a.Rotator, err = newRotator(cfg, keys, a.stores.Pool, a.now)
	if err != nil {
		return err
	}
	a.eviction, err = newEvictionWatch(a.stores.Redis, a.log, a.Metrics)
	return err
}

// NewRotator returns a rotator for commands that change signing keys.
func NewRotator(cfg *config.Config, pool *pgxpool.Pool) (*signing.Rotator, error) {
	keys, err := deriveKeys(cfg)
	if err != nil {
		return nil, err
	}
	return newRotator(cfg, keys, pool, time.Now)
}

// newRotator returns a rotator of the keys that signing.Open reads.
func newRotator(cfg *config.Config, keys *subkeys, pool *pgxpool.Pool, now func() time.Time) (*signing.Rotator, error) {
	return signing.NewRotator(signing.RotatorConfig{
		Store: signingstore.Store{Pool: pool}, SealKeys: keys.seal, Algorithm: accesstoken.Algorithm(cfg.TokenAlgorithm),
		Period: cfg.KeyRotation, MaxTTL: maxAccessLife, Now: now,
	})
}

func (a *App) newJobs() (*jobs.Queue, error) {
	upkeep := jobs.Upkeep{Pool: a.stores.Pool, AuditRetention: a.cfg.AuditRetention, Now: a.now}
	queue, err := jobs.New(jobs.Config{
		Pool:     a.stores.Pool,
		PollOnly: a.stores.pooler == postgres.TransactionPooler, // it would hear nothing
		Sweep: func(ctx context.Context) error {
			return errors.Join(a.Accounts.DeleteDue(ctx), upkeep.Sweep(ctx))
		},
		Logger: a.log,
	})
	if err != nil || a.overrides.NoUpkeep {
		return queue, err
	}
	return queue, queue.AddTask(a.keepUp)
}

func (a *App) newOutbox(keys *subkeys, sender mail.Sender) (*mail.Outbox, error) {
	cfg := a.cfg
	templates, err := mailTemplates(cfg)
	if err != nil {
		return nil, err
	}
	outbox, err := mail.New(mail.Config{
		Templates: templates,
		Pool:      a.stores.Pool,
		Jobs:      a.jobs,
		Accounts:  account.Resets{Pool: a.stores.Pool, TTL: cfg.ResetTokenTTL, Key: keys.resetLink, Now: a.now},
		Sender:    sender, ResetURL: cfg.ResetURL, VerifyURL: cfg.VerifyURL, EmailChangeURL: cfg.EmailChangeURL, InsecureLinks: cfg.InsecureLinks, ResetTTL: cfg.ResetTokenTTL, ProductName: ProductName(cfg),
		Logger: a.log, Now: a.now,
	})
	if err != nil {
		return nil, err
	}
	return outbox, a.registerOutbox(outbox)
}

// serviceWords returns words that everybody knows about the service. A guess at a password begins with such
// words.
func serviceWords(cfg *config.Config) []string {
	return []string{cfg.Issuer, cfg.Audience, cfg.ClientID, cfg.MailFrom, cfg.ResetURL}
}

// HashSlots returns how many passwords are hashed at once: the setting, or one for each goroutine that Go runs at once.
func HashSlots(cfg *config.Config) int {
	if cfg.HashSlots > 0 {
		return cfg.HashSlots
	}
	return runtime.GOMAXPROCS(0)
}

func hashLimits(cfg *config.Config) (slots, queue int) {
	slots, queue = HashSlots(cfg), cfg.HashQueue
	if queue == 0 {
		queue = queuePerSlot * slots
	}
	return slots, queue
}
