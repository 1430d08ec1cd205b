package ratelimit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// newRedis starts a Redis for one test: a process of its own costs 10 ms, and the test may dump, flush and damage it.
// If redis-server is not installed, a stand-in in this process replaces it, so that no test is skipped.
func newRedis(t testing.TB) *redis.Client {
	t.Helper()
	server, err := devstack.StartRedis(t.Context(), devstack.RedisConfig{})
	if errors.Is(err, devstack.ErrNoRedis) {
		t.Log("redis-server is not installed: testing against miniredis")
		return newMiniredis(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, options)
}

func newMiniredis(t testing.TB) *redis.Client {
	t.Helper()
	server := miniredis.RunT(t)
	server.ClockTTL(true)
	return newClient(t, &redis.Options{Addr: server.Addr()})
}

func newClient(t testing.TB, options *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// clock is a clock that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
