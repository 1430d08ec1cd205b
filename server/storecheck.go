package server

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// storeCheckEvery and storeCheckTimeout bound how old the answer of health is.
	storeCheckEvery   = time.Second
	storeCheckTimeout = 2 * time.Second
	// writeCheckEvery is how often PostgreSQL is asked to take a write, while it does. Where
	// it did not, every check asks.
	writeCheckEvery = 10 * time.Second
	// doubtTime is how long a store counts as refusing writes after a call met that, though
	// the check's own write is taken: a disk may have room for the one and not the other.
	doubtTime = 30 * time.Second
)

// watchStores checks the stores until ctx is over.
func (s *Server) watchStores(ctx context.Context) {
	const writeEvery = int(writeCheckEvery / storeCheckEvery)
	tick := time.NewTicker(storeCheckEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.checkStores(ctx, n%writeEvery == 0)
		}
	}
}

// checkStores asks both stores; write has PostgreSQL take a write too. Without PostgreSQL
// nothing can be served. Without Redis nobody logs in or refreshes, but tokens are
// validated: taking every replica out of service at once would only make that worse, so
// it is reported by /readyz and metrics and does not end SERVING.
func (s *Server) checkStores(ctx context.Context, write bool) {
	s.ready.mu.Lock()
	before := s.ready.postgres
	s.ready.mu.Unlock()
	inPostgres, inRedis := s.ready.doubts.about(clockNow())
	var postgres, redis string
	var asked sync.WaitGroup
	// Each has a time of its own: one that hangs must not make the other look lost.
	asked.Go(func() { postgres = s.checkPostgres(ctx, write || before != storeOK || inPostgres != "") })
	asked.Go(func() { redis = s.checkRedis(ctx) })
	asked.Wait()
	if ctx.Err() != nil {
		return // the server stops: nothing was learned
	}
	if postgres == storeOK && inPostgres != "" {
		postgres = inPostgres
	}
	if redis == storeOK && inRedis != "" {
		redis = inRedis
	}
	s.ready.mu.Lock()
	changed := s.ready.postgres != postgres || s.ready.redis != redis
	first := s.ready.postgres == ""
	stopping := s.ready.stopping
	s.ready.postgres, s.ready.redis = postgres, redis
	s.ready.mu.Unlock()
	if stopping {
		return
	}
	if changed && !first {
		s.log.WarnContext(ctx, "stores", "postgres", postgres, "redis", redis)
	}
	s.setServing(postgres == storeOK)
}

// What a store is said to be, by /readyz and the log: short, and never with what the
// store said, which the log of the failed calls has.
const (
	storeOK          = "ok"
	storeUnreachable = "unreachable"
	storeReadOnly    = "read-only"
	storeDiskFull    = "disk full"
	storeNoMemory    = "out of memory"
	storeRefuses     = "refuses writes"
	storeHangs       = "answers, but commits nothing"
)

// doubts are what calls have met of late.
type doubts struct {
	mu              sync.Mutex
	postgres, redis string
	postgresUntil   time.Time
	redisUntil      time.Time
}

// clockNow is the machine's clock, by which doubts end: a test's may stand still.
func clockNow() time.Time {
	return time.Now() //nolint:forbidigo // see above
}

// meet notes what the error of a call says about a store.
func (d *doubts) meet(err error, now time.Time) {
	inPostgres, inRedis := "", ""
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		inPostgres = refusedByPostgres(pg)
	}
	if answer, ok := errors.AsType[redis.Error](err); ok && !errors.Is(err, redis.Nil) {
		inRedis = refusedByRedis(answer.Error())
	}
	if inPostgres == "" && inRedis == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if inPostgres != "" {
		d.postgres, d.postgresUntil = inPostgres, now.Add(doubtTime)
	}
	if inRedis != "" {
		d.redis, d.redisUntil = inRedis, now.Add(doubtTime)
	}
}

// about are the doubts that are left, or "".
func (d *doubts) about(now time.Time) (inPostgres, inRedis string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Before(d.postgresUntil) {
		inPostgres = d.postgres
	}
	if now.Before(d.redisUntil) {
		inRedis = d.redis
	}
	return inPostgres, inRedis
}

// refusedByPostgres is what an error says about writing, or "". Not when it is read-only:
// after a failover that is so for one connection, and the next leads to the primary.
func refusedByPostgres(err *pgconn.PgError) string {
	switch {
	case err.Code == "53100":
		return storeDiskFull
	case strings.HasPrefix(err.Code, "58"): // its files
		return storeRefuses
	}
	return ""
}

// refusedByRedis is what an error reply says about writing, or "". Redis before version
// 7 puts a sentence of its own before that of a script's command.
func refusedByRedis(reply string) string {
	for _, known := range []struct{ code, means string }{
		{"READONLY", storeReadOnly},
		{"OOM ", storeNoMemory},
		{"MISCONF", storeRefuses},
		{"NOREPLICAS", storeRefuses},
		{"NOPERM", storeRefuses},
		{"NOAUTH", storeRefuses},
		{"WRONGPASS", storeRefuses},
		{"MOVED ", storeRefuses},
		{"ASK ", storeRefuses},
		{"CLUSTERDOWN", storeRefuses},
		{"MASTERDOWN", storeRefuses},
		{"LOADING", storeRefuses},
		{"user executing the script can't run", storeRefuses},
	} {
		if strings.HasPrefix(reply, known.code) || strings.Contains(reply, "-"+known.code) ||
			strings.Contains(reply, " "+known.code) {
			return known.means
		}
	}
	return ""
}

// checkPostgres proves that the server is the primary, and now and then that it takes a
// write.
func (s *Server) checkPostgres(ctx context.Context, write bool) string {
	ctx, cancel := context.WithTimeout(ctx, storeCheckTimeout)
	defer cancel()
	if err := s.queries.OnPrimary(ctx, s.cfg.Pool); err != nil {
		return stateOfPostgres(err, storeUnreachable)
	}
	if !write {
		return storeOK
	}
	err := s.queries.TakeWrite(ctx, s.cfg.Pool)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return storeOK
	case errors.As(err, &pg) && pg.Code == "55P03":
		return storeOK // a migration has the table: that says nothing
	case ctx.Err() != nil:
		return storeHangs
	}
	return stateOfPostgres(err, storeRefuses)
}

func stateOfPostgres(err error, otherwise string) string {
	if postgres.IsReadOnly(err) {
		return storeReadOnly
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if state := refusedByPostgres(pg); state != "" {
			return state
		}
	}
	return otherwise
}

// storeCheckLua writes as a session does.
//
//go:embed storecheck.lua
var storeCheckLua string

// storeCheckKeys are written by every check. Their hash tags lie in the sixteen equal
// parts of a cluster's slots, one each: a master that takes nothing is met.
func storeCheckKeys() []string {
	keys := []string{"10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40"}
	for i, tag := range keys {
		keys[i] = "latchkey:check:{" + tag + "}"
	}
	return keys
}

// checkRedis proves that Redis takes writes.
func (s *Server) checkRedis(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, storeCheckTimeout)
	defer cancel()
	_, err := s.cfg.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, key := range storeCheckKeys() {
			pipe.Eval(ctx, storeCheckLua, []string{key}, time.Minute.Milliseconds())
		}
		return nil
	})
	if err == nil {
		return storeOK
	}
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return storeUnreachable
	}
	if state := refusedByRedis(answer.Error()); state != "" {
		return state
	}
	return storeRefuses
}
