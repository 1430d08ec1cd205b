package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// sampledKeys is how many sessions Redis is asked about.
const sampledKeys = 200

// footprint is what one row takes.
type footprint struct {
	What  string  `json:"what"`
	Rows  int64   `json:"rows"`
	Table float64 `json:"table_bytes"`
	Index float64 `json:"index_bytes"`
}

// measureBytes reads how large tables and indexes are, and asks Redis.
func (s *site) measureBytes(ctx context.Context) ([]footprint, error) {
	var all []footprint
	for _, t := range []struct{ table, what string }{
		{"users", "an account"},
		{"password_guards", "an account that has logged in, beside that"},
		{"session_marks", "a session, in PostgreSQL"},
		{"revocations", "a row of the ledger"},
		{"audit_events", "an event of the audit trail"},
	} {
		b := footprint{What: t.what}
		var table, index int64
		err := s.pool.QueryRow(ctx, fmt.Sprintf("SELECT count(*), pg_table_size('%[1]s'), pg_indexes_size('%[1]s') FROM %[1]s", t.table)).Scan(&b.Rows, &table, &index)
		if err != nil {
			return nil, err
		}
		b.Table, b.Index = float64(table)/float64(b.Rows), float64(index)/float64(b.Rows)
		all = append(all, b)
	}
	kept := footprint{What: "a session, in Redis: its hash, and its share of its account's list"}
	var sum [2]int64
	for n := range min(sampledKeys, s.sessions) {
		session := n * (s.sessions / min(sampledKeys, s.sessions))
		for i, key := range []string{"latchkey:session:{" + id("session", session).String() + "}", "latchkey:sessions:{" + id("account", s.owner(session)).String() + "}"} {
			used, err := s.redis.MemoryUsage(ctx, key).Result()
			if err != nil {
				return nil, fmt.Errorf("how large is %s: %w", key, err)
			}
			sum[i] += used
		}
		kept.Rows++
	}
	kept.Table, kept.Index = float64(sum[0])/float64(kept.Rows), float64(sum[1])/float64(kept.Rows)/sessionsEach
	whole := footprint{What: "a session, in Redis: growth of used_memory", Rows: s.sessions, Table: float64(s.redisUsed[1]-s.redisUsed[0]) / float64(s.sessions)}
	return append(all, kept, whole), nil
}

// redisMemory returns how many bytes Redis has allocated.
func (s *site) redisMemory(ctx context.Context) (int64, error) {
	return s.redisInfo(ctx, "memory", "used_memory")
}

// redisInfo returns a number of Redis' INFO.
func (s *site) redisInfo(ctx context.Context, section, name string) (int64, error) {
	text, err := s.redis.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+":"); found {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("INFO %s has no %s", section, name)
}
