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
	// storeCheckEvery and storeCheckTimeout limit how old the answer of health can be.
	storeCheckEvery   = time.Second
	storeCheckTimeout = 2 * time.Second
	// writeCheckEvery is how often a check writes to PostgreSQL, as long as writes succeed. After a failure every check
	// writes.
	writeCheckEvery = 10 * time.Second
	// doubtTime is how long a store counts as refusing writes after it refused one of a call, even if it accepts the
	// write of the check: a disk may have room for one and not for the other.
	doubtTime = 30 * time.Second
)

// watchStores checks the stores until ctx ends.
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

// checkStores asks both stores. If write is set, it also writes to PostgreSQL. Without PostgreSQL the service cannot
// serve anything. Without Redis nobody can log in or refresh, but tokens are validated. To take every replica out of
// service would only make that worse, so /readyz and the metrics report it, and health stays SERVING.
func (s *Server) checkStores(ctx context.Context, write bool) {
	s.ready.mu.Lock()
	before := s.ready.postgres
	s.ready.mu.Unlock()
	inPostgres, inRedis := s.ready.doubts.about(clockNow())
	var postgres, redis string
	var asked sync.WaitGroup
	// Each has its own timeout, so that one that does not answer does not make the other look lost.
	asked.Go(func() { postgres = s.checkPostgres(ctx, write || before != storeOK || inPostgres != "") })
	asked.Go(func() { redis = s.checkRedis(ctx) })
	asked.Wait()
	if ctx.Err() != nil {
		return // the server stops, and the results mean nothing
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

// The states of a store in /readyz and the log. They are short and never have text from the store, which is in the log
// of the calls that failed.
const (
	storeOK          = "ok"
	storeUnreachable = "unreachable"
	storeReadOnly    = "read-only"
	storeDiskFull    = "disk full"
	storeNoMemory    = "out of memory"
	storeRefuses     = "refuses writes"
	storeHangs       = "answers, but commits nothing"
)

// doubts are the errors of stores that calls have met lately.
type doubts struct {
	mu              sync.Mutex
	postgres, redis string
	postgresUntil   time.Time
	redisUntil      time.Time
}

// clockNow reads the machine's clock, which ends doubts. The clock of a test may not move.
func clockNow() time.Time {
	return time.Now() //nolint:forbidigo // see above
}

// meet records the state of a store that the error of a call shows.
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

// about returns the doubts that have not expired, or "".
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

// refusedByPostgres returns the state that an error about writing shows, or "". Read-only does not count: after a
// failover one connection is read-only, and the next one leads to the primary.
func refusedByPostgres(err *pgconn.PgError) string {
	switch {
	case err.Code == "53100":
		return storeDiskFull
	case strings.HasPrefix(err.Code, "58"): // about its files
		return storeRefuses
	}
	return ""
}

// refusedByRedis returns the state that an error reply about writing shows, or "". Before the text about a command in a
// script, Redis before version 7 puts a sentence of its own.
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

// checkPostgres checks that the server is the primary, and if write is set that it accepts a write.
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
		return storeOK // a migration has locked the table, so nothing is known
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

// storeCheckLua writes in the same way as a session.
//
//go:embed storecheck.lua
var storeCheckLua string

// storeCheckKeys are the keys that every check writes. The slots of a cluster have sixteen equal parts, and each part
// has the hash tag of one key, so that the check finds a master that accepts no writes.
func storeCheckKeys() []string {
	keys := []string{"10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40"}
	for i, tag := range keys {
		keys[i] = "latchkey:check:{" + tag + "}"
	}
	return keys
}

// checkRedis checks that Redis accepts writes.
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
