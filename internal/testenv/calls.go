package testenv

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// StoreCalls counts the statements that a server sends to PostgreSQL and the commands that it sends to Redis for its
// callers. It counts statements that have the name of a query, and all commands except those of health checks. The part
// that follows the ledger has its own connections. The outbox has its own names for the statements that look for mails
// and sweep.
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
	if named && !slices.ContainsFunc(otherQueries(), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		c.postgres.Add(1)
	}
	return ctx
}

// otherQueries are the beginnings of the names of other queries: River's, the outbox's own, and those of health checks.
func otherQueries() []string {
	return []string{
		"OnPrimary", "TakeWrite", "TakeResetRequests", "Job", "Leader", "Queue", "Notification", "PG", "River", "Schema", "Table",
		"Column", "Index",
		// These run in the sweep at the start.
		"DeleteAuditEventsBefore", "DeleteExpired", "DeleteMailNoticesBefore", "DeleteOld", "DueDeletions", "EraseAddresses",
	}
}

// TraceQueryEnd implements pgx.QueryTracer.
func (c *StoreCalls) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// DialHook implements redis.Hook.
func (c *StoreCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (c *StoreCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (c *StoreCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count(cmds...)
		return next(ctx, cmds)
	}
}

func (c *StoreCalls) count(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if !slices.ContainsFunc(cmd.Args(), isCheckKey) {
			c.redis.Add(1)
		}
	}
}

func isCheckKey(arg any) bool {
	text, ok := arg.(string)
	return ok && strings.HasPrefix(text, "latchkey:check:")
}
