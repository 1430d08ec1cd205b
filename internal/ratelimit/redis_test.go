package ratelimit

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// newRedis starts a Redis for one test: a process of its own costs 10 ms, and a test may then dump, flush and harm it.
// Where redis-server is not installed, an imitation in this process takes its place, so that nothing is skipped.
func newRedis(t testing.TB) *redis.Client {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Log("redis-server is not installed: testing against miniredis")
		return newMiniredis(t)
	}
	//nolint:usetesting // the path of a socket holds 107 bytes, and t.TempDir spends them on the name of the test
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "r.sock")
	// Not under t.Context: that ends before Cleanup, where clients still close.
	startRedis(t, exec.CommandContext(context.Background(), binary,
		"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir))
	awaitSocket(t, socket)
	return newClient(t, &redis.Options{Network: "unix", Addr: socket})
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

// startRedis runs the server until the test ends. The goroutine keeps its thread, because the death signal that
// dieWithParent asks for is sent when the thread that forked ends, not the process.
func startRedis(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	started, stop, stopped := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		release := dieWithParent(cmd)
		defer release()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-stop
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

func awaitSocket(t testing.TB, socket string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("redis-server does not answer: %v", err)
		case <-tick.C:
		}
	}
}

// clock is set by the test.
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
