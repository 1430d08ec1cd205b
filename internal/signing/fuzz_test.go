package signing

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/seal"
)

// Opening never panics and yields nothing but what was sealed.
func FuzzSealerOpen(f *testing.F) {
	s := mustSealer(f, testSealKey(1), testSealKey(2))
	plain := []byte("private")
	sealed := s.seal("kid", accesstoken.EdDSA, plain)
	f.Add(sealed)
	f.Add(sealed[:seal.HeadBytes+chacha20poly1305.NonceSizeX])
	f.Add(mustSealer(f, testSealKey(3)).seal("kid", accesstoken.EdDSA, plain))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := s.open("kid", accesstoken.EdDSA, data)
		if err == nil && !bytes.Equal(got, plain) {
			t.Fatalf("opened %x as %x", data, got)
		}
		if err != nil && !errors.Is(err, ErrSealed) {
			t.Fatal(err)
		}
	})
}
