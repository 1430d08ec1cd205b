package config

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedisThatHangs: whatever does not answer, one server, a Sentinel or a node of a
// cluster, and wherever it stops, a command is given up in less than two seconds.
func TestRedisThatHangs(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{"accepts and is silent": silent(t), "takes no connection": blackHole(t)} {
		for _, url := range []string{"redis://" + at, "redis://" + at + "," + at, "redis+sentinel://" + at + "/main"} {
			t.Run(name+" "+url, func(t *testing.T) {
				t.Parallel()
				var u RedisURL
				if err := u.UnmarshalText([]byte(url)); err != nil {
					t.Fatal(err)
				}
				client := u.Client()
				defer client.Close() //nolint:errcheck // nothing was written
				var commands sync.WaitGroup
				for what, do := range map[string]func() error{
					"command": func() error { return client.Get(t.Context(), "key").Err() },
					"pipeline": func() error {
						_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "key").Err() })
						return err
					},
					"transaction": func() error {
						_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "key").Err() })
						return err
					},
				} {
					commands.Go(func() {
						began := time.Now()
						err := do()
						if took := time.Since(began); err == nil || took > 2*time.Second {
							t.Errorf("%s: %v after %s", what, err, took)
						}
					})
				}
				commands.Wait()
			})
		}
	}
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// blackHole answers no new connection: its queue is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := bound.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("bound to %v", bound)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(at.Port))
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this kernel queues connections without end")
	return ""
}
