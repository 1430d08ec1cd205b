package testenv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func dial(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	// One attempt each: the tests are about the result of a single one.
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func set(t *testing.T, client *redis.Client) {
	t.Helper()
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, client *redis.Client) bool {
	t.Helper()
	err := client.Get(t.Context(), "key").Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return err == nil
}

func TestRedisIsPrivate(t *testing.T) {
	t.Parallel()
	first, second := dial(t, testenv.Redis(t)), dial(t, testenv.Redis(t))
	set(t, first)
	if !has(t, first) || has(t, second) {
		t.Error("two tests share a server")
	}
}

func TestRealRedis(t *testing.T) {
	t.Parallel()
	client := dial(t, testenv.RealRedis(t))
	const library = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)"
	if err := client.FunctionLoad(t.Context(), library).Err(); err != nil {
		t.Errorf("not the real one: %v", err)
	}
}

func TestHasRedisFollowsPath(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if testenv.HasRedis() {
		t.Error("a redis-server is found without PATH")
	}
	client := dial(t, testenv.Redis(t))
	set(t, client)
	if !has(t, client) {
		t.Error("the stand-in forgets")
	}
	useRedisServer(t)
}

func TestRedisServer(t *testing.T) {
	t.Parallel()
	useRedisServer(t)
}

func useRedisServer(t *testing.T) {
	t.Helper()
	server := testenv.RedisServer(t)
	client := dial(t, server.URL())
	set(t, client)
	server.Flush()
	if has(t, client) {
		t.Error("Flush left a key")
	}
	set(t, client)
	script := redis.NewScript("return 7")
	if err := script.Load(t.Context(), client).Err(); err != nil {
		t.Fatal(err)
	}

	server.Stop()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("it answers after Stop")
	}
	server.Restart()
	if has(t, client) {
		t.Error("a restarted server has the data of the old one")
	}
	if err := script.EvalSha(t.Context(), client, nil).Err(); !redis.HasErrorPrefix(err, "NOSCRIPT") {
		t.Errorf("a restarted server has the scripts of the old one: %v", err)
	}
	set(t, client)
	server.Restart() // without Stop
	if has(t, client) {
		t.Error("a server restarted twice has the data of the second one")
	}

	set(t, client)
	server.Proxy().Cut()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("it answers after a cut")
	}
	server.Proxy().Restore()
	testenv.Eventually(t, time.Second, "the key is back after a cut", func() bool { return has(t, client) })
}
