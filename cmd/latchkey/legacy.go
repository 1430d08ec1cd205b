package main

import (
	"crypto/rsa"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/server"
)

// newLegacy is what the settings say of the backends that are taken over from; nil
// when they say nothing.
func newLegacy(cfg *config.Config, client redis.UniversalClient) (*server.Legacy, error) {
	if !cfg.LegacyEnabled {
		return nil, nil //nolint:nilnil // no takeover is a setting, not an error
	}
	public, err := legacyPublicKey(cfg)
	if err != nil {
		return nil, err
	}
	tokens, err := legacy.NewTokens(legacy.TokensConfig{
		RS256: public, HS256: cfg.LegacyHS256Secret, AcceptUntil: cfg.LegacyAcceptUntil, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	return &server.Legacy{Tokens: tokens, Store: legacy.NewStore(client)}, nil
}

// legacyPublicKey reads the Go backend's key; nil when none is set.
func legacyPublicKey(cfg *config.Config) (*rsa.PublicKey, error) {
	const variable = "LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE"
	if cfg.LegacyRS256PublicKeyFile == "" {
		return nil, nil //nolint:nilnil // no key is a setting, not an error
	}
	text, err := os.ReadFile(cfg.LegacyRS256PublicKeyFile)
	if err != nil {
		return nil, config.Reject(variable, "cannot be read: "+err.Error())
	}
	key, err := legacy.ParsePublicKey(text)
	if err != nil {
		return nil, config.Reject(variable, err.Error())
	}
	return key, nil
}
