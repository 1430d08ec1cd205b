package session

import (
	"bytes"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

func testKey(seed byte) []byte { return bytes.Repeat([]byte{seed}, refreshtoken.MinKeySize) }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{
			Redis: newMiniredis(t), MACKeys: [][]byte{testKey(1)},
			IdleTTL: time.Hour, MaxTTL: time.Hour, Now: newClock().Now,
		}
	}
	cases := map[string]func(*Config){
		"no Redis":                 func(c *Config) { c.Redis = nil },
		"no key":                   func(c *Config) { c.MACKeys = nil },
		"a short key":              func(c *Config) { c.MACKeys = [][]byte{testKey(1)[1:]} },
		"a short previous key":     func(c *Config) { c.MACKeys = append(c.MACKeys, []byte("short")) },
		"no idle time":             func(c *Config) { c.IdleTTL = 0 },
		"less than a millisecond":  func(c *Config) { c.MaxTTL = time.Millisecond - 1 },
		"a negative life":          func(c *Config) { c.MaxTTL = -time.Hour },
		"more than 100 years":      func(c *Config) { c.IdleTTL = maxLife + 1 },
		"a negative grace":         func(c *Config) { c.Grace = -1 },
		"a negative limit":         func(c *Config) { c.Limit = -1 },
		"a short key after a good": func(c *Config) { c.MACKeys = [][]byte{testKey(1), {}} },
	}
	for name, change := range cases {
		cfg := good()
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := good()
	cfg.MACKeys = [][]byte{testKey(1), testKey(1), testKey(2)}
	cfg.Now = nil
	store, err := New(cfg)
	if err != nil {
		t.Fatalf("a key given twice and no clock: %v", err)
	}
	if len(store.keys) != 2 || store.now == nil {
		t.Errorf("%d keys, clock set: %v", len(store.keys), store.now != nil)
	}
}
