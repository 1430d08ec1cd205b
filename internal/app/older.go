package app

import (
	"cmp"
	"crypto/rsa"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/legacy/backend"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/validate"
	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/server/auth"
)

// The settings that name the Go backend's keys.
const (
	LegacyPublicKeyFile  = "LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE"
	LegacyPrivateKeyFile = "LATCHKEY_LEGACY_RS256_PRIVATE_KEY_FILE"
)

// older is all that the rest of the service knows of the older backends: the hooks through which it asks
// them. The zero value has none.
type older struct {
	// key is the Go backend's; nil when none is set.
	key *signing.OlderKey
	// until is when nothing that they left is accepted any more; zero: nothing ever is.
	until time.Time

	left    *backend.Left    // nil if no backend is taken over
	backend *backend.Backend // made with the flows
}

func newOlder(cfg *config.Config, client redis.UniversalClient, now func() time.Time) (*older, error) {
	if !cfg.LegacyEnabled {
		return &older{}, nil
	}
	key, err := olderKey(cfg)
	if err != nil {
		return nil, err
	}
	accepted := legacy.TokensConfig{
		HS256: cfg.LegacyHS256Secret, AcceptUntil: cfg.LegacyAcceptUntil, Now: now,
		Issuer: cfg.LegacyIssuer, RefreshLife: cfg.LegacyRefreshTokenTTL, AccessLife: cfg.LegacyAccessTokenTTL,
	}
	if key != nil {
		accepted.RS256 = key.Public
	}
	tokens, err := legacy.NewTokens(accepted)
	if err != nil {
		return nil, err
	}
	return &older{key: key, until: cfg.LegacyAcceptUntil, left: &backend.Left{Tokens: tokens, Store: legacy.NewStore(client, legacyStore(cfg))}}, nil
}

// legacyStore is what the older backends were set to.
func legacyStore(cfg *config.Config) legacy.StoreConfig {
	return legacy.StoreConfig{ResetLife: cfg.LegacyResetTokenTTL, Attempts: cfg.LegacyLoginAttempts, AttemptsWindow: cfg.LegacyLoginWindow}
}

// hookCache sets the hook for access tokens of an older backend.
func (o *older) hookCache(cached *validate.CacheConfig) {
	if o.left != nil {
		cached.Older = o.left.Access(cached.Pool, cached.Keyring)
	}
}

// hookFlows sets the hooks for failed logins and resets of an older backend.
func (o *older) hookFlows(logins *login.Config, accounts *account.Config) {
	if o.left == nil {
		return
	}
	o.backend = backend.New(backend.Config{
		Left: o.left, Pool: logins.Pool, Sessions: logins.Sessions, Keyring: logins.Keyring, Trail: logins.Trail, Logger: logins.Logger,
		Now: logins.Now, Refusal: server.RefusalIn,
	})
	logins.Older, accounts.Older = o.backend, o.backend
}

// connect gives the older backend the flows that it calls itself.
func (o *older) connect(f *flows) {
	if o.backend != nil {
		o.backend.Connect(f.revoker, f.validation, f.accounts, f.logins)
	}
}

// hookService sets the hook for refresh tokens of an older backend.
func (o *older) hookService(service *auth.Service) {
	if o.backend != nil {
		service.Older = o.backend
	}
}

// register registers the service of the older contract.
func (o *older) register(r grpc.ServiceRegistrar) {
	if o.backend != nil {
		o.backend.Register(r)
	}
}

// olderKey reads the Go backend's keys; nil when none is set. The private one has the
// public one in it, and has to be that of the public one when both are set.
func olderKey(cfg *config.Config) (*signing.OlderKey, error) {
	public, err := ReadKey(LegacyPublicKeyFile, cfg.LegacyRS256PublicKeyFile, legacy.ParsePublicKey)
	if err != nil {
		return nil, err
	}
	private, err := ReadKey(LegacyPrivateKeyFile, cfg.LegacyRS256PrivateKeyFile, legacy.ParsePrivateKey)
	if err != nil {
		return nil, err
	}
	switch {
	case private == nil && public == nil:
		return nil, nil //nolint:nilnil // no key is a setting, not an error
	case public == nil:
		public = &private.PublicKey
	case private != nil && !private.PublicKey.Equal(public):
		return nil, config.Reject(LegacyPrivateKeyFile, "holds another key than "+LegacyPublicKeyFile+": set the two halves of one, or the private one only")
	}
	return &signing.OlderKey{Issuer: cmp.Or(cfg.LegacyIssuer, legacy.Issuer), Public: public, Private: private, Until: cfg.LegacyAcceptUntil}, nil
}

// ReadKey reads a key that the settings name, nil if none is set.
func ReadKey[K rsa.PublicKey | rsa.PrivateKey](variable, path string, parse func([]byte) (*K, error)) (*K, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no key is a setting, not an error
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, config.Reject(variable, "cannot be read: "+err.Error())
	}
	key, err := parse(text)
	if err != nil {
		return nil, config.Reject(variable, err.Error())
	}
	return key, nil
}

// judgesOfOlder returns the checks of an older backend's key files, which run before anything starts.
func judgesOfOlder() []config.Judge {
	return []config.Judge{whereOlder(judgeOlderPublic), whereOlder(judgeOlderPrivate), whereOlder(judgeOlderKeys)}
}

// judgeOlderPublic, judgeOlderPrivate and judgeOlderKeys: each file by itself, then
// whether both are halves of one key.
func judgeOlderPublic(cfg *config.Config) error {
	_, err := ReadKey(LegacyPublicKeyFile, cfg.LegacyRS256PublicKeyFile, legacy.ParsePublicKey)
	return err
}

func judgeOlderPrivate(cfg *config.Config) error {
	_, err := ReadKey(LegacyPrivateKeyFile, cfg.LegacyRS256PrivateKeyFile, legacy.ParsePrivateKey)
	return err
}

func judgeOlderKeys(cfg *config.Config) error {
	_, err := olderKey(cfg)
	return err
}

// whereOlder skips a check if no older backend is taken over.
func whereOlder(judge config.Judge) config.Judge {
	return func(cfg *config.Config) error {
		if !cfg.LegacyEnabled {
			return nil
		}
		return judge(cfg)
	}
}
