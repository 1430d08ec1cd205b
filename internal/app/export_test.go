package app

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// What tests in app_test call, which may import internal/testenv.

func NewEvictionWatch(client redis.UniversalClient, log *slog.Logger, metrics prometheus.Registerer) (*evictionWatch, error) {
	return newEvictionWatch(client, log, metrics)
}

func (w *evictionWatch) Look(ctx context.Context) { w.look(ctx) }

func EvictionPolicy(ctx context.Context, client redis.UniversalClient) (string, error) {
	return evictionPolicy(ctx, client)
}

func CheckEviction(ctx context.Context, cfg *config.Config, client redis.UniversalClient, log *slog.Logger) error {
	return checkEviction(ctx, cfg, client, log)
}
