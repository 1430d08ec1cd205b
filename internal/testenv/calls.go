package testenv

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
)

// StoreCalls counts the statements that a server sends to PostgreSQL and the commands that it sends to Redis for its
// callers: those of calls, also after their answers, and those of mails. It counts statements that have the name of a query,
// and all commands except those of health checks. The part that follows the ledger has its own connections. The outbox has
// its own names for the statements that look for mails and sweep.
type StoreCalls struct {
	mu              sync.Mutex
	postgres, redis map[string]int64 // by the name of the called method, "" for mails
}

// Postgres is how many statements there were.
func (c *StoreCalls) Postgres() int64 { return c.sum(&c.postgres) }

// Redis is how many commands there were.
func (c *StoreCalls) Redis() int64 { return c.sum(&c.redis) }

// Of is how many there were for one method, such as "ValidateToken".
func (c *StoreCalls) Of(method string) (postgres, redis int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.postgres[method], c.redis[method]
}

func (c *StoreCalls) sum(counts *map[string]int64) (all int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range *counts {
		all += n
	}
	return all
}

func (c *StoreCalls) count(ctx context.Context, counts *map[string]int64) {
	method, _ := grpc.Method(ctx)
	name := ""
	if method != "" {
		name = path.Base(method)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if *counts == nil {
		*counts = map[string]int64{}
	}
	(*counts)[name]++
}

// TraceQueryStart implements pgx.QueryTracer.
func (c *StoreCalls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	name, named := strings.CutPrefix(data.SQL, "-- name: ")
	if named && !slices.ContainsFunc(otherQueries(), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		c.count(ctx, &c.postgres)
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
		c.commands(ctx, cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (c *StoreCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.commands(ctx, cmds...)
		return next(ctx, cmds)
	}
}

func (c *StoreCalls) commands(ctx context.Context, cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if !slices.ContainsFunc(cmd.Args(), isCheckKey) {
			c.count(ctx, &c.redis)
		}
	}
}

func isCheckKey(arg any) bool {
	text, ok := arg.(string)
	return ok && strings.HasPrefix(text, "latchkey:check:")
}
