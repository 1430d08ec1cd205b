package app

import (
	"crypto/rsa"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/server"
)

// The settings that name the Go backend's keys.
const (
	LegacyPublicKeyFile  = "LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE"
	LegacyPrivateKeyFile = "LATCHKEY_LEGACY_RS256_PRIVATE_KEY_FILE"
)

// formerBackends is what the settings say of the backends that are taken over from. The zero
// value is that they say nothing.
type formerBackends struct {
	legacy *server.Legacy
	// former is the Go backend's key; nil when none is set.
	former *token.FormerKey
	// until is when no token of theirs is accepted any more; zero: none ever is.
	until time.Time
}

func newFormerBackends(cfg *config.Config, client redis.UniversalClient, now func() time.Time) (formerBackends, error) {
	if !cfg.LegacyEnabled {
		return formerBackends{}, nil
	}
	former, err := formerKey(cfg)
	if err != nil {
		return formerBackends{}, err
	}
	accepted := legacy.TokensConfig{HS256: cfg.LegacyHS256Secret, AcceptUntil: cfg.LegacyAcceptUntil, Now: now}
	if former != nil {
		accepted.RS256 = former.Public
	}
	tokens, err := legacy.NewTokens(accepted)
	if err != nil {
		return formerBackends{}, err
	}
	return formerBackends{
		legacy: &server.Legacy{Tokens: tokens, Store: legacy.NewStore(client)},
		former: former, until: cfg.LegacyAcceptUntil,
	}, nil
}

// formerKey reads the Go backend's keys; nil when none is set. The private one has the
// public one in it, and has to be that of the public one when both are set.
func formerKey(cfg *config.Config) (*token.FormerKey, error) {
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
	return &token.FormerKey{Issuer: legacy.Issuer, Public: public, Private: private, Until: cfg.LegacyAcceptUntil}, nil
}

// ReadKey reads a key of the settings; nil when none is set.
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
