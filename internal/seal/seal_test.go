package seal_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/seal"
)

func secret(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func sealer(t *testing.T, secrets ...[]byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New("test", secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the previous key has sealed is opened, and its head says that it is not of the current key.
func TestSealOpen(t *testing.T) {
	t.Parallel()
	before, now := sealer(t, secret(1)), sealer(t, secret(2), secret(1))
	for name, by := range map[string]*seal.Sealer{"current": now, "previous": before} {
		for _, plain := range [][]byte{{}, []byte("seed"), bytes.Repeat([]byte{7}, 1000)} {
			sealed := by.Seal("place", plain)
			got, _, err := now.Open("place", sealed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %x, %v", name, got, err)
			}
			if len(plain) > 0 && bytes.Contains(sealed, plain) {
				t.Errorf("%s: the plain text is in it", name)
			}
			if got := bytes.Equal(sealed[:seal.HeadBytes], now.Head()); got != (name == "current") {
				t.Errorf("%s: has the current head: %v", name, got)
			}
		}
	}
	if a, b := now.Seal("place", []byte("seed")), now.Seal("place", []byte("seed")); bytes.Equal(a, b) {
		t.Error("sealed twice alike")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	s := sealer(t, secret(1))
	sealed := s.Seal("place", []byte("seed"))
	wrong := map[string][]byte{"nothing": nil, "longer": append(slices.Clone(sealed), 0), "of another key": sealer(t, secret(2)).Seal("place", []byte("seed"))}
	for i := range sealed {
		damaged := slices.Clone(sealed)
		damaged[i] ^= 0x80
		wrong["damaged at "+string(rune('a'+i%26))+string(rune('a'+i/26))] = damaged
		wrong["cut at "+string(rune('a'+i%26))+string(rune('a'+i/26))] = sealed[:i]
	}
	for name, text := range wrong {
		if plain, _, err := s.Open("place", text); !errors.Is(err, seal.ErrSealed) || plain != nil {
			t.Errorf("%s: %x, %v", name, plain, err)
		}
	}
	if plain, _, err := s.Open("another place", sealed); !errors.Is(err, seal.ErrSealed) || plain != nil {
		t.Errorf("another place: %x, %v", plain, err)
	}
	for _, secrets := range [][][]byte{nil, {secret(1)[1:]}, {secret(1), {}}} {
		if _, err := seal.New("test", secrets); err == nil {
			t.Errorf("%d secrets pass", len(secrets))
		}
	}
}
