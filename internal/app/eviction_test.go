package app_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestAttack18EvictionIsSeen: the log says when Redis begins to drop keys while the service runs, and when it stops.
func TestAttack18EvictionIsSeen(t *testing.T) {
	t.Parallel()
	var parsed config.RedisURL
	if err := parsed.UnmarshalText([]byte(testenv.RealRedis(t))); err != nil {
		t.Fatal(err)
	}
	client := parsed.Client()
	t.Cleanup(func() { _ = client.Close() })
	set := func(policy, limit string) {
		for name, value := range map[string]string{"maxmemory-policy": policy, "maxmemory": limit} {
			if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	watch, err := app.NewEvictionWatch(client, slog.New(slog.NewTextHandler(&log, nil)), metrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{"allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random", "allkeys-lfu"} {
		set(policy, "100mb")
		watch.Look(t.Context())
		if only(t, metrics) != 1 || !strings.Contains(log.String(), policy) {
			t.Errorf("%s: %v, %s", policy, only(t, metrics), log.String())
		}
	}
	for _, fine := range [][2]string{{"noeviction", "100mb"}, {"allkeys-lru", "0"}} {
		set(fine[0], fine[1])
		watch.Look(t.Context())
		if policy, err := app.EvictionPolicy(t.Context(), client); policy != "" || err != nil || only(t, metrics) != 0 {
			t.Errorf("%v: %q, %v", fine, policy, err)
		}
	}
}

// TestAttack18EvictingCluster: every master is asked: one of three drops keys.
func TestAttack18EvictingCluster(t *testing.T) {
	t.Parallel()
	nodes := testenv.RedisCluster(t, [3]string{"noeviction", "allkeys-lru", "noeviction"})
	addrs := make([]string, len(nodes))
	for i, node := range nodes {
		addrs[i] = node.Options().Addr
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = client.Close() })
	for range 20 { // whichever master comes first or last
		if policy, err := app.EvictionPolicy(t.Context(), client); err != nil || policy != "allkeys-lru" {
			t.Fatalf("one of three masters drops keys: %q, %v", policy, err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	if err := app.CheckEviction(t.Context(), &config.Config{}, client, log); err == nil || !strings.Contains(err.Error(), "allkeys-lru") {
		t.Errorf("the cluster is taken: %v", err)
	}
	if err := nodes[1].ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err(); err != nil {
		t.Fatal(err)
	}
	if err := app.CheckEviction(t.Context(), &config.Config{}, client, log); err != nil {
		t.Errorf("none drops keys any more: %v", err)
	}
}

// TestEvictionUnknown: a warning about a Redis that does not show its policy, unless the settings accept each policy.
func TestEvictionUnknown(t *testing.T) {
	t.Parallel()
	standIn, err := devstack.StartMiniredis() // refuses INFO memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standIn.Stop(context.Background()) })
	options, err := redis.ParseURL(standIn.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	for accepted, want := range map[bool]bool{false: true, true: false} {
		var logged bytes.Buffer
		log := slog.New(slog.NewTextHandler(&logged, nil))
		if err := app.CheckEviction(t.Context(), &config.Config{RedisMayEvict: accepted}, client, log); err != nil {
			t.Errorf("accepted %t: %v", accepted, err)
		}
		if got := strings.Contains(logged.String(), "does not say whether it drops keys"); got != want {
			t.Errorf("accepted %t: warned %t: %s", accepted, got, &logged)
		}
	}
}

// only is the value of the one gauge in metrics.
func only(t *testing.T, metrics *prometheus.Registry) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}
