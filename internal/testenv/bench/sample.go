package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// storeCalls are Latchkey's own counters.
type storeCalls struct {
	Postgres float64 `json:"postgres"`
	Redis    float64 `json:"redis"`
}

func (c storeCalls) minus(other storeCalls) storeCalls {
	return storeCalls{c.Postgres - other.Postgres, c.Redis - other.Redis}
}

func (c storeCalls) times(n float64) storeCalls { return storeCalls{c.Postgres * n, c.Redis * n} }

// readStoreCalls reads the counters, and makes sure that validations are answered from memory.
func readStoreCalls(ctx context.Context, ops string) (storeCalls, error) {
	values, err := benchkit.Scrape(ctx, ops)
	if err != nil {
		return storeCalls{}, fmt.Errorf("metrics: %w", err)
	}
	postgres, ok1 := values["latchkey_postgres_acquires_total"]
	redis, ok2 := values["latchkey_redis_acquires_total"]
	if !ok1 || !ok2 {
		return storeCalls{}, errors.New("metrics: the counters of store calls are missing")
	}
	if values["latchkey_ledger_trusted"] != 1 {
		return storeCalls{}, errors.New("metrics: latchkey_ledger_trusted is not 1, so validations ask PostgreSQL: see the log (-log FILE)")
	}
	return storeCalls{postgres, redis}, nil
}
