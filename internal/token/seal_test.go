package token

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
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
	first, second := s.seal("kid", EdDSA, []byte("secret")), s.seal("kid", EdDSA, []byte("secret"))
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
	sealed := s.seal("kid", EdDSA, []byte("secret"))
	open := func(id string, algorithm Algorithm, sealed []byte) error {
		plain, _, err := s.open(id, algorithm, sealed)
		if err != nil && plain != nil {
			t.Error("plain bytes came with an error")
		}
		return err
	}
	for i := range sealed {
		damaged := slices.Clone(sealed)
		damaged[i] ^= 0x80
		wantError(t, open("kid", EdDSA, damaged), ErrSealed)
		wantError(t, open("kid", EdDSA, sealed[:i]), ErrSealed)
	}
	wantError(t, open("kid", EdDSA, append(slices.Clone(sealed), 0)), ErrSealed)
	for name, err := range map[string]error{
		"another id":          open("kid2", EdDSA, sealed),
		"another algorithm":   open("kid", RS256, sealed),
		"id and algorithm":    open("\x00kid", "", sealed),
		"newer format":        open("kid", EdDSA, slices.Concat([]byte{2}, sealed[1:])),
		"under another":       open("kid", EdDSA, mustSealer(t, testSealKey(3)).seal("kid", EdDSA, []byte("secret"))),
		"id of another":       open("kid", EdDSA, slices.Concat(sealed[:1], s.keys[1].id, sealed[5:])),
		"nothing":             open("kid", EdDSA, nil),
		"header and no more":  open("kid", EdDSA, sealed[:sealHeadBytes]),
		"ids of other secret": open("kid", EdDSA, slices.Concat(sealed[:1], []byte{0, 0, 0, 0}, sealed[5:])),
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
