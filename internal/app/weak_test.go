package app

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// TestAttack18DrawnKeysAreTaken: what openssl draws is never taken for a word.
func TestAttack18DrawnKeysAreTaken(t *testing.T) {
	t.Parallel()
	for i := range 2_000 {
		raw := make([]byte, 32)
		_, _ = rand.Read(raw)
		for _, key := range []config.SecretKey{raw, []byte(hex.EncodeToString(raw)), []byte(hex.EncodeToString(raw[:16])), []byte(base64.StdEncoding.EncodeToString(raw))} {
			if isWritten(key) {
				t.Errorf("%q is taken for written", key)
			}
		}
		if i%500 == 0 {
			cfg := &config.Config{SecretKey: raw, Argon2MemoryKiB: 19456, Argon2Time: 2, AdminKeySHA256: config.KeyHashes{sha256.Sum256(raw)}}
			if refused, _ := Weaknesses(cfg, config.Serve); len(refused) > 0 {
				t.Errorf("%x: %v", raw, refused)
			}
		}
	}
}
