package testenv

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// HasRedis reports whether PATH has a redis-server. If it has none, the tests use the stand-in.
func HasRedis() bool {
	_, err := devstack.FindRedis()
	return err == nil
}

// Redis returns the URL of an empty server that only this test uses: a redis-server or, if there is none, the stand-in.
// The stand-in lacks functions, client tracking, persistence, clusters and cmsgpack in scripts.
func Redis(t testing.TB) string {
	t.Helper()
	return startRedis(t).URL()
}

// RealRedis is [Redis] for tests that need more than the stand-in has: it skips the test if there is no redis-server.
func RealRedis(t testing.TB) string {
	t.Helper()
	if !HasRedis() {
		t.Skip("needs redis-server on PATH (Debian, Ubuntu: apt-get install redis-server)")
	}
	return startRedis(t).URL()
}

func startRedis(t testing.TB) *devstack.Redis {
	t.Helper()
	server, err := devstack.StartRedis(t.Context(), devstack.RedisConfig{})
	if errors.Is(err, devstack.ErrNoRedis) {
		server, err = devstack.StartMiniredis()
	}
	if err != nil {
		t.Fatalf("testenv: start Redis: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("testenv: stop Redis: %v", err)
		}
	})
	return server
}

// RedisProcess is a Redis that a test can stop and start. Its URL stays the same.
type RedisProcess struct {
	t      testing.TB
	proxy  *Proxy
	isReal bool

	mu     sync.Mutex
	server *devstack.Redis
}

// RedisServer starts a server like [Redis] behind a [Proxy].
func RedisServer(t testing.TB) *RedisProcess {
	t.Helper()
	server := startRedis(t)
	return &RedisProcess{t: t, proxy: NewProxy(t, server.URL()), isReal: HasRedis(), server: server}
}

// URL is the address of the server, through the proxy.
func (r *RedisProcess) URL() string { return r.proxy.URL() }

// Proxy can make the server unreachable and reachable again with its data kept, or make it hang.
func (r *RedisProcess) Proxy() *Proxy { return r.proxy }

// Stop ends the server, and its data is lost: its connections break and new ones are refused.
func (r *RedisProcess) Stop() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proxy.Cut()
	if !r.isReal {
		r.exec("FLUSHALL")
		r.exec("SCRIPT", "FLUSH")
		return
	}
	if err := r.server.Stop(r.t.Context()); err != nil {
		r.t.Errorf("testenv: stop Redis: %v", err)
	}
}

// Restart replaces the server by an empty one, as a crash without persistence does.
func (r *RedisProcess) Restart() {
	r.t.Helper()
	r.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isReal {
		r.server = startRedis(r.t)
		r.proxy.retarget(r.server.URL())
	}
	r.proxy.Restore()
}

// Flush removes every key.
func (r *RedisProcess) Flush() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exec("FLUSHALL")
}

// exec runs a command on the server directly, without the proxy.
func (r *RedisProcess) exec(command ...any) {
	r.t.Helper()
	options, err := redis.ParseURL(r.server.URL())
	if err != nil {
		r.t.Fatalf("testenv: %v", err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	if err := client.Do(r.t.Context(), command...).Err(); err != nil {
		r.t.Fatalf("testenv: %v: %v", command[0], err)
	}
}
