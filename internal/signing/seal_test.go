package signing

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/seal"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

func mustSealer(t testing.TB, secrets ...[]byte) *sealer {
	t.Helper()
	s, err := newSealer(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	s := mustSealer(t, testSealKey(1), testSealKey(2))
	previous := mustSealer(t, testSealKey(2))
	rapid.Check(t, func(r *rapid.T) {
		id := rapid.String().Draw(r, "id")
		algorithm := rapid.SampledFrom(algorithms()).Draw(r, "algorithm")
		plain := rapid.SliceOf(rapid.Byte()).Draw(r, "plain")
		for _, c := range []struct {
			by      *sealer
			current bool
		}{{s, true}, {previous, false}} {
			sealed := c.by.seal(id, algorithm, plain)
			got, current, err := s.open(id, algorithm, sealed)
			if err != nil || !bytes.Equal(got, plain) || current != c.current {
				r.Fatalf("got %x, %v, %v", got, current, err)
			}
		}
	})
}

// The format is read by other versions: version, key id, nonce, ciphertext.
func TestSealFormat(t *testing.T) {
	t.Parallel()
	s := mustSealer(t, testSealKey(1))
	first, second := s.seal("kid", accesstoken.EdDSA, []byte("secret")), s.seal("kid", accesstoken.EdDSA, []byte("secret"))
	if len(first) != 1+4+24+len("secret")+16 || first[0] != 1 {
		t.Errorf("sealed: %x", first)
	}
	if !bytes.Equal(first[:5], second[:5]) || bytes.Equal(first[5:29], second[5:29]) {
		t.Errorf("the key id must repeat and the nonce must not:\n%x\n%x", first, second)
	}
	if bytes.Contains(first, testSealKey(1)[:4]) {
		t.Error("the key id is part of the secret")
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	s := mustSealer(t, testSealKey(1), testSealKey(2))
	sealed := s.seal("kid", accesstoken.EdDSA, []byte("secret"))
	open := func(id string, algorithm accesstoken.Algorithm, sealed []byte) error {
		plain, _, err := s.open(id, algorithm, sealed)
		if err != nil && plain != nil {
			t.Error("plain bytes came with an error")
		}
		return err
	}
	for i := range sealed {
		damaged := slices.Clone(sealed)
		damaged[i] ^= 0x80
		josetest.WantError(t, open("kid", accesstoken.EdDSA, damaged), ErrSealed)
		josetest.WantError(t, open("kid", accesstoken.EdDSA, sealed[:i]), ErrSealed)
	}
	josetest.WantError(t, open("kid", accesstoken.EdDSA, append(slices.Clone(sealed), 0)), ErrSealed)
	for name, err := range map[string]error{
		"another id":          open("kid2", accesstoken.EdDSA, sealed),
		"another algorithm":   open("kid", accesstoken.RS256, sealed),
		"id and algorithm":    open("\x00kid", "", sealed),
		"newer format":        open("kid", accesstoken.EdDSA, slices.Concat([]byte{2}, sealed[1:])),
		"under another":       open("kid", accesstoken.EdDSA, mustSealer(t, testSealKey(3)).seal("kid", accesstoken.EdDSA, []byte("secret"))),
		"id of another":       open("kid", accesstoken.EdDSA, slices.Concat(sealed[:1], mustSealer(t, testSealKey(2)).keys.Head()[1:], sealed[5:])),
		"nothing":             open("kid", accesstoken.EdDSA, nil),
		"header and no more":  open("kid", accesstoken.EdDSA, sealed[:seal.HeadBytes+chacha20poly1305.NonceSizeX]),
		"ids of other secret": open("kid", accesstoken.EdDSA, slices.Concat(sealed[:1], []byte{0, 0, 0, 0}, sealed[5:])),
	} {
		if !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "kid") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSealerNeedsSecrets(t *testing.T) {
	t.Parallel()
	for name, secrets := range map[string][][]byte{
		"none": nil, "short": {make([]byte, 31)}, "long": {make([]byte, 33)}, "short previous": {testSealKey(1), {1}},
	} {
		if _, err := newSealer(secrets); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestSealOfEarlierVersion opens what a version before internal/seal has sealed.
func TestSealOfEarlierVersion(t *testing.T) {
	t.Parallel()
	sealed, err := hex.DecodeString("017e3ee26a9a1639c4c238db32de3a8626ad606622125317752db638245a46ba721173e229df720630d88b2b543c206282de807d")
	if err != nil {
		t.Fatal(err)
	}
	got, current, err := mustSealer(t, testSealKey(1)).open("kid", accesstoken.ES256, sealed)
	if err != nil || !current || string(got) != "private" {
		t.Errorf("got %q, %v, %v", got, current, err)
	}
}
