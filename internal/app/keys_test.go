package app

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// TestDerivedKeys: each use has a key of its own, and none of them changes: what is
// stored and handed out depends on them.
func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	secret := config.SecretKey(bytes.Repeat([]byte{7}, 32))
	keys, err := deriveKeys(&config.Config{SecretKey: secret, SecretKeyPrevious: bytes.Repeat([]byte{8}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{string(secret): true}
	for _, key := range append(append(append(keys.refreshMAC, keys.seal...), keys.device...), keys.decoy, keys.attempts, keys.pageToken, keys.resetLink) {
		if len(key) != subkeySize || seen[string(key)] {
			t.Errorf("%d bytes, seen before: %v", len(key), seen[string(key)])
		}
		seen[string(key)] = true
	}
	// HKDF-SHA-256 without salt, computed by another program.
	for _, test := range []struct {
		use, want string
		key       []byte
	}{
		{"refresh token mac", "c410ad63e3baf59b8618032263c5819df3f48fb61779284cf40ea8c672ecc9c3", keys.refreshMAC[0]},
		{"refresh token mac, previous", "4ac5543cbfaeae2985997b982d955d7cafb09cc3e142585fada6ae4d1178e07a", keys.refreshMAC[1]},
		{"signing key seal", "54736998145729ad662ed550da00eeb953b8c993f2cfcdd6eae40f878628c25e", keys.seal[0]},
		{"signing key seal, previous", "615cdecf385c931d3a8c485651a57c1f4f90b136185c7f7e5cf8d94f125dd359", keys.seal[1]},
		{"password decoy", "09a4e2f6bf3a86a62a54fc05505e493b11a08359bc9ab6223d784809591c68a4", keys.decoy},
		{"attempt counter", "ac009f8e07fd5b2c8da5cd96ae7b360578bde36e06c1d19c62ce9074e22102f1", keys.attempts},
		{"page token", "ed2935be26a4b20f6bea5555a36d0db82352a0441bc43578c7c1bb9a4f2be4ca", keys.pageToken},
	} {
		if got := hex.EncodeToString(test.key); got != test.want {
			t.Errorf("%s: %s, want %s", test.use, got, test.want)
		}
	}
	again, err := deriveKeys(&config.Config{SecretKey: secret})
	if err != nil || !bytes.Equal(again.seal[0], keys.seal[0]) || len(again.seal) != 1 {
		t.Errorf("not the same: %v", err)
	}
	var rejected *config.Error
	if _, err := deriveKeys(&config.Config{}); !errors.As(err, &rejected) {
		t.Errorf("without a secret: %v", err)
	}
}
