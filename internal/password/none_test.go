package password

import (
	"errors"
	"testing"
)

// TestNone: None is no hash, not even of an empty password.
func TestNone(t *testing.T) {
	t.Parallel()
	if _, err := Canonical(None); !errors.Is(err, ErrMalformedHash) {
		t.Errorf("Canonical: %v", err)
	}
	h, err := New(Config{Params: Params{MemoryKiB: 64, Time: 1, Threads: 1}, Slots: 1, DecoyKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{"", None, "!!"} {
		result, err := h.Verify(t.Context(), Claim{}, None, typed)
		if !errors.Is(err, ErrMalformedHash) || result.Match {
			t.Errorf("%q: %v, %v", typed, result, err)
		}
	}
}
