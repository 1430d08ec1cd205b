package app

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// subkeys are derived from LATCHKEY_SECRET_KEY, each for one use. In a list the first belongs to the current
// secret key, the second to the previous one.
type subkeys struct {
	refreshMAC [][]byte
	seal       [][]byte
	device     [][]byte
	factors    [][]byte
	decoy      []byte
	attempts   []byte
	pageToken  []byte
	resetLink  []byte
}

// deriveKeys uses HKDF (RFC 5869) with one label for each use. Stored and issued data depends on the labels:
// never change one.
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
		keys.factors = append(keys.factors, derive(secret, "factor seal"))
	}
	keys.decoy = derive(cfg.SecretKey, "password decoy")
	keys.attempts = derive(cfg.SecretKey, "attempt counter")
	keys.pageToken = derive(cfg.SecretKey, "page token")
	keys.resetLink = derive(cfg.SecretKey, "reset link")
	return &keys, failed
}
