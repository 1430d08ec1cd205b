package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// evictionPolicy asks Redis, and each master of a cluster, whether it drops keys when its memory is full. It
// returns the policy, or "" if no key is dropped. It uses INFO, because managed services refuse CONFIG.
func evictionPolicy(ctx context.Context, client redis.UniversalClient) (string, error) {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return evictionOf(ctx, client)
	}
	var mu sync.Mutex
	policy := ""
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
		found, err := evictionOf(ctx, one)
		mu.Lock()
		defer mu.Unlock()
		if found != "" {
			policy = found
		}
		return err
	})
	return policy, err
}

var errNoMemoryInfo = errors.New("INFO memory names no maxmemory_policy")

func evictionOf(ctx context.Context, client redis.Cmdable) (string, error) {
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return "", err
	}
	limit, policy := "", ""
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "maxmemory":
			limit = value
		case "maxmemory_policy":
			policy = value
		}
	}
	switch {
	case policy == "":
		return "", errNoMemoryInfo
	case limit == "0" || policy == "noeviction":
		return "", nil
	}
	return policy, nil
}

// checkEviction returns an error if Redis may drop keys, unless the settings accept that; then config.Weak
// warns. All keys of Latchkey have a time to live, so the volatile-* policies, the default of managed
// services, drop them like any other policy.
func checkEviction(ctx context.Context, cfg *config.Config, client redis.UniversalClient, log *slog.Logger) error {
	if cfg.RedisMayEvict {
		return nil
	}
	policy, err := evictionPolicy(ctx, client)
	if err != nil {
		log.WarnContext(ctx, "Redis does not say whether it drops keys when its memory is full: make sure that its maxmemory-policy is noeviction", "error", err)
		return nil
	}
	if policy == "" {
		return nil
	}
	return config.Reject("LATCHKEY_REDIS_MAY_EVICT", "is false, and Redis drops keys when its memory is full (maxmemory-policy "+policy+
		"), sessions and counts of failed logins among them: set maxmemory-policy noeviction there, or accept that here")
}

// evictionWatch logs when a running Redis begins to drop keys: its policy was changed, or another server took
// its place.
type evictionWatch struct {
	client redis.UniversalClient
	log    *slog.Logger
	gauge  prometheus.Gauge
	before string
}

func newEvictionWatch(client redis.UniversalClient, log *slog.Logger, metrics prometheus.Registerer) (*evictionWatch, error) {
	w := &evictionWatch{client: client, log: log, gauge: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "latchkey_redis_may_evict", Help: "1 while Redis drops keys when its memory is full.",
	})}
	return w, metrics.Register(w.gauge)
}

// look asks once. If Redis does not answer, the state stays as it was, and others log that.
func (w *evictionWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeAttempt)
	defer cancel()
	policy, err := evictionPolicy(ctx, w.client)
	if err != nil || policy == w.before {
		return
	}
	w.before = policy
	if policy == "" {
		w.gauge.Set(0)
		w.log.InfoContext(ctx, "Redis keeps all keys again")
		return
	}
	w.gauge.Set(1)
	w.log.WarnContext(ctx, "Redis drops keys when its memory is full, sessions and counts of failed logins among them: set maxmemory-policy noeviction there", "policy", policy)
}
