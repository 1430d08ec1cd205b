package devstack

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// pingRedis increments a key.
func pingRedis(t *testing.T, url string) int64 {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	n, err := client.Incr(t.Context(), "runs").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stopRedis(t *testing.T, rd *Redis) {
	t.Helper()
	if err := rd.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := FindRedis(); err != nil {
		t.Skip("needs redis-server on PATH (Debian, Ubuntu: apt-get install redis-server)")
	}
}

func TestRedisKeepsNothing(t *testing.T) {
	t.Parallel()
	needRedis(t)
	for range 2 {
		rd, err := StartRedis(t.Context(), RedisConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if n := pingRedis(t, rd.URL()); n != 1 {
			t.Errorf("a fresh server counts to %d", n)
		}
		if err := rd.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		<-rd.Done()
		if err := rd.Err(); err != nil {
			t.Errorf("after Stop, Err gives %v", err)
		}
	}
}

func TestRedisAppendOnlyKeepsEverything(t *testing.T) {
	t.Parallel()
	needRedis(t)
	cfg := RedisConfig{DataDir: filepath.Join(publicTempDir(t), "redis"), AppendOnly: true}
	for want := range int64(3) {
		rd, err := StartRedis(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n := pingRedis(t, rd.URL()); n != want+1 {
			t.Errorf("run %d counts to %d", want+1, n)
		}
		// Although it is stopped at once, the last write is on the disk.
		if err := rd.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := StartRedis(t.Context(), RedisConfig{AppendOnly: true}); err == nil {
		t.Error("an append-only file without a directory")
	}
}

func TestRedisSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	needRedis(t)
	dir := publicTempDir(t)
	blocked := filepath.Join(dir, "redis")
	if err := os.MkdirAll(blocked, 0o777); err != nil {
		t.Fatal(err)
	}
	// A file has the name of the directory that the server wants to make.
	if err := os.WriteFile(filepath.Join(blocked, "appendonlydir"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	_, err := StartRedis(t.Context(), RedisConfig{DataDir: blocked, AppendOnly: true, LogFile: log})
	if err == nil || !strings.Contains(err.Error(), "appendonlydir") {
		t.Errorf("the reason is missing in: %v", err)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), "appendonlydir") {
		t.Errorf("the log reads %q, %v", text, err)
	}
}

func TestNoRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := StartRedis(t.Context(), RedisConfig{}); !errors.Is(err, ErrNoRedis) {
		t.Errorf("without a program the error is %v", err)
	}
	if _, err := StartRedis(t.Context(), RedisConfig{Bin: "/nowhere/redis-server"}); !errors.Is(err, ErrNoRedis) {
		t.Errorf("with a wrong program the error is %v", err)
	}
}

func TestMiniredis(t *testing.T) {
	t.Parallel()
	rd, err := StartMiniredis()
	if err != nil {
		t.Fatal(err)
	}
	options, err := redis.ParseURL(rd.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	ctx := t.Context()
	if err := client.Set(ctx, "short", "lived", 20*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key expires with the clock", func() bool {
		return errors.Is(client.Get(ctx, "short").Err(), redis.Nil)
	})
	parsed, err := url.Parse(rd.URL())
	if err != nil {
		t.Fatal(err)
	}
	stranger := redis.NewClient(&redis.Options{Addr: parsed.Host, MaxRetries: -1})
	defer func() { _ = stranger.Close() }()
	if err := stranger.Get(ctx, "short").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("the server answers without its password: %v", err)
	}
	for range 2 {
		if err := rd.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}
	<-rd.Done()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("it answers after Stop")
	}
	if err := rd.Err(); err != nil {
		t.Error(err)
	}
}
