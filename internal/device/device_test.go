package device

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newTokens(t testing.TB, c *clock, keys ...byte) *Tokens {
	t.Helper()
	var all [][]byte
	for _, key := range keys {
		all = append(all, bytes.Repeat([]byte{key}, 32))
	}
	tokens, err := New(all, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_790_000_000, 0)}
	tokens := newTokens(t, c, 1)
	rapid.Check(t, func(t *rapid.T) {
		want := Token{UserID: uuid.New(), Epoch: rapid.Int64Min(0).Draw(t, "epoch"), ID: uuid.New()}
		if got, ok := tokens.Open(tokens.Issue(want)); !ok || got != want {
			t.Fatalf("%v, %v, want %v", got, ok, want)
		}
	})
}

func TestAge(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_790_000_000, 0)}
	tokens := newTokens(t, c, 1)
	text := tokens.Issue(Token{UserID: uuid.New(), ID: uuid.New()})
	for after, want := range map[time.Duration]bool{-time.Minute: true, -time.Minute - time.Second: false, 0: true, Life: true, Life + time.Second: false} {
		c.now = time.Unix(1_790_000_000, 0).Add(after)
		if _, ok := tokens.Open(text); ok != want {
			t.Errorf("after %v: %v", after, ok)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_790_000_000, 0)}
	text := newTokens(t, c, 1).Issue(Token{})
	if _, ok := newTokens(t, c, 2, 1).Open(text); !ok {
		t.Error("the former key does not check any more")
	}
	if _, ok := newTokens(t, c, 2).Open(text); ok {
		t.Error("another key checks")
	}
	for _, keys := range [][][]byte{nil, {}, {make([]byte, 31)}, {make([]byte, 32), nil}} {
		if _, err := New(keys, c.Now); err == nil {
			t.Errorf("%d keys were taken", len(keys))
		}
	}
}

// TestForgeries: a token with any character changed, cut or added is none.
func TestForgeries(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_790_000_000, 0)}
	tokens := newTokens(t, c, 1)
	text := tokens.Issue(Token{UserID: uuid.New(), ID: uuid.New()})
	for i := range len(text) {
		for _, other := range []string{"A", "_", "=", "\n", " "} {
			if text[i:i+1] == other {
				continue
			}
			if _, ok := tokens.Open(text[:i] + other + text[i+1:]); ok {
				t.Errorf("%q at %d passes", other, i)
			}
		}
		if _, ok := tokens.Open(text[:i]); ok {
			t.Errorf("cut at %d passes", i)
		}
	}
	for _, other := range []string{text + "A", text + text, "", strings.ToUpper(text), "B" + text[1:]} {
		if _, ok := tokens.Open(other); ok {
			t.Errorf("%q passes", other)
		}
	}
}

// FuzzOpen: nothing but what was issued opens.
func FuzzOpen(f *testing.F) {
	c := &clock{time.Unix(1_790_000_000, 0)}
	tokens := newTokens(f, c, 1)
	issued := tokens.Issue(Token{UserID: uuid.Max, Epoch: 7, ID: uuid.Max})
	f.Add(issued)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if _, ok := tokens.Open(text); ok && text != issued {
			t.Fatalf("%q passes", text)
		}
	})
}
