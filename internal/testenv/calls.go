package testenv

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// StoreCalls counts the statements that a server sends to PostgreSQL and the commands
// that it sends to Redis for its callers: those with the name of a query, and all but
// the pings of the health check. What follows the ledger has connections of its own,
// and the outbox looks for mails under names of its own.
type StoreCalls struct {
	postgres, redis atomic.Int64
}

// Postgres is how many statements there were.
func (c *StoreCalls) Postgres() int64 { return c.postgres.Load() }

// Redis is how many commands there were.
func (c *StoreCalls) Redis() int64 { return c.redis.Load() }

// TraceQueryStart implements pgx.QueryTracer.
func (c *StoreCalls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	name, named := strings.CutPrefix(data.SQL, "-- name: ")
	if named && !slices.ContainsFunc(outboxQueries(), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		c.postgres.Add(1)
	}
	return ctx
}

// outboxQueries are what the names of the outbox's queries begin with, River's and its own.
func outboxQueries() []string {
	return []string{"TakeResetRequests", "Job", "Leader", "Queue", "Notification", "PG", "River", "Schema", "Table", "Column", "Index"}
}

// TraceQueryEnd implements pgx.QueryTracer.
func (c *StoreCalls) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// DialHook implements redis.Hook.
func (c *StoreCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (c *StoreCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "ping" {
			c.redis.Add(1)
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (c *StoreCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.redis.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}
