package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

const (
	// StorePatience is how long the stores may take to come up: containers start in
	// any order.
	StorePatience = 30 * time.Second
	storeRetry    = 500 * time.Millisecond
	storeAttempt  = 5 * time.Second
	// closeTime is what connections in use get when the service has stopped.
	closeTime = 2 * time.Second
	// ownConns are those beside the pool: two follow the ledger, one hears of mails.
	ownConns = 3
	// directConns is the pool past a pooler: nothing but what opens connections of its own uses it.
	directConns = 2
)

// Stores are the two that the service keeps its truth in.
type Stores struct {
	Pool  *pgxpool.Pool
	Redis redis.UniversalClient
	// Direct leads to PostgreSQL itself where Pool goes through a pooler that shares connections; else nil.
	Direct *pgxpool.Pool
	pooler postgres.Pooler
}

// OpenStores connects to both, waits for them if need be, and brings the schema up
// to date or makes sure that it is.
func OpenStores(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Stores, error) {
	cache, err := RedisURL(cfg)
	if err != nil {
		return nil, err
	}
	s := &Stores{Redis: cache.Client()}
	if err := s.prepare(ctx, cfg, cache, log); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connect waits for PostgreSQL and opens the pools, by what is found before it.
func (s *Stores) connect(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	const variable, directVariable = "LATCHKEY_DATABASE_URL", "LATCHKEY_DATABASE_DIRECT_URL"
	url, direct := string(cfg.DatabaseURL), string(cfg.DatabaseDirectURL)
	find := postgres.FindPooler
	if direct == "" {
		find = postgres.RequireSession
	}
	err := await(ctx, log, "PostgreSQL", variable, func(ctx context.Context) (err error) {
		s.pooler, err = find(ctx, url)
		return err
	})
	if err != nil {
		return err
	}
	if direct != "" {
		err := await(ctx, log, "PostgreSQL", directVariable, func(ctx context.Context) error {
			_, err := postgres.RequireSession(ctx, direct)
			return err
		})
		if err != nil {
			return err
		}
		s.Direct, err = postgres.Open(ctx, postgres.Config{URL: direct, MaxConns: directConns})
		if err != nil {
			return config.Reject(directVariable, "is not usable")
		}
		err = await(ctx, log, "PostgreSQL", directVariable, func(ctx context.Context) error { return postgres.CheckServer(ctx, s.Direct) })
		if err != nil {
			return err
		}
	}
	if err := s.tellPooler(ctx, cfg, log); err != nil {
		return err
	}
	s.Pool, err = postgres.Open(ctx, postgres.Config{URL: url, MaxConns: cfg.DatabaseMaxConns, Pooler: s.pooler})
	if err != nil {
		return config.Reject(variable, "is not usable")
	}
	return await(ctx, log, "PostgreSQL", variable, func(ctx context.Context) error {
		return postgres.CheckServer(ctx, s.Pool)
	})
}

// tellPooler says what is between Latchkey and PostgreSQL, and what it asks for.
func (s *Stores) tellPooler(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	switch s.pooler {
	case postgres.NoPooler:
		return nil
	case postgres.SessionPooler:
		log.InfoContext(ctx, "a pooler is between Latchkey and PostgreSQL, and gives each connection one of its own (session mode): its pool must have room for all of them",
			"setting", "LATCHKEY_DATABASE_MAX_CONNS", "connections", cfg.DatabaseMaxConns+ownConns)
	case postgres.TransactionPooler:
		warning, err := postgres.CheckTransactionPooler(ctx, string(cfg.DatabaseURL))
		if err != nil {
			return fmt.Errorf("LATCHKEY_DATABASE_URL: %w", err)
		}
		log.InfoContext(ctx, "a pooler in transaction mode is between Latchkey and PostgreSQL: what follows the ledger and migrates goes past it", "setting", "LATCHKEY_DATABASE_DIRECT_URL")
		if warning != "" {
			log.WarnContext(ctx, "through it Latchkey cannot bound how long statements and transactions take: let the role do it", "sql", warning)
		}
	}
	return nil
}

func (s *Stores) prepare(ctx context.Context, cfg *config.Config, cache config.RedisURL, log *slog.Logger) error {
	if err := s.connect(ctx, cfg, log); err != nil {
		return err
	}
	err := await(ctx, log, "Redis", "LATCHKEY_REDIS_URL", func(ctx context.Context) error {
		if err := s.Redis.Ping(ctx).Err(); err != nil {
			return err
		}
		before := s.Redis
		resolved, err := cache.Resolve(ctx, s.Redis)
		if err != nil {
			return err
		}
		if s.Redis = resolved; resolved != before {
			log.InfoContext(ctx, "the address is one of a Redis cluster: going on with all of its nodes", "setting", "LATCHKEY_REDIS_URL")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := checkEviction(ctx, cfg, s.Redis, log); err != nil {
		return err
	}
	if cfg.Migrate {
		applied, err := Schema(cfg).Up(ctx, func(ctx context.Context) error { return AfterMigrations(ctx, s.Pool) })
		for _, name := range applied {
			log.InfoContext(ctx, "migrated", "migration", name)
		}
		if err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		return nil
	}
	return s.checkSchema(ctx, cfg)
}

// AfterMigrations brings up to date what is no migration of ours: River's tables,
// and the form in which addresses are compared, which SQL cannot compute.
func AfterMigrations(ctx context.Context, pool *pgxpool.Pool) error {
	if err := jobs.Migrate(ctx, pool); err != nil {
		return err
	}
	if _, err := address.Fill(ctx, pool); err != nil {
		return fmt.Errorf("fill users.email_lookup: %w", err)
	}
	return nil
}

// checkSchema refuses a database that lacks a migration. One that has more is fine:
// migrations only add.
func (s *Stores) checkSchema(ctx context.Context, cfg *config.Config) error {
	list, err := Schema(cfg).Status(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	outbox, err := jobs.Status(ctx, s.Pool)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	missing := outbox.Current < outbox.Latest
	for _, m := range list {
		missing = missing || !m.Applied
	}
	if missing {
		return errors.New("the database lacks migrations and LATCHKEY_MIGRATE is false: run `latchkey migrate up` first")
	}
	return nil
}

// Close ends the connections. The pool waits for those in use: the last queries have
// their answers, unless PostgreSQL hangs.
func (s *Stores) Close() {
	closed := make(chan struct{})
	go func() {
		for _, pool := range []*pgxpool.Pool{s.Pool, s.Direct} {
			if pool != nil {
				pool.Close()
			}
		}
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTime):
	}
	_ = s.Redis.Close() // nothing is written through it any more
}

// Schema is the migrations, for the database of the settings.
func Schema(cfg *config.Config) postgres.Migrations {
	return postgres.Migrations{URL: DirectURL(cfg), FS: migrations.FS, CheckUp: postgres.CheckForeign}
}

// DirectURL leads to PostgreSQL past a pooler, where the settings know the way.
func DirectURL(cfg *config.Config) string {
	return string(cmp.Or(cfg.DatabaseDirectURL, cfg.DatabaseURL))
}

// await tries until a store answers, for StorePatience. The first failure is told
// at once: whoever waits should know for what.
func await(ctx context.Context, log *slog.Logger, store, variable string, try func(context.Context) error) error {
	deadline := time.Now().Add(StorePatience)
	for attempt := 0; ; attempt++ {
		once, cancel := context.WithTimeout(ctx, storeAttempt)
		err := try(once)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case hopeless(err) != "":
			return fmt.Errorf("%s cannot be used (%s): %s", store, variable, hopeless(err))
		case time.Now().After(deadline):
			return fmt.Errorf("%s did not answer for %s (%s): %w", store, StorePatience, variable, err)
		case attempt == 0:
			log.WarnContext(ctx, "waiting for a store", "store", store, "variable", variable, "for_at_most", StorePatience, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(storeRetry):
		}
	}
}

// Explain says in an operator's words why a command could not use PostgreSQL; other errors stay as they are.
func Explain(err error) error {
	if reason := postgres.Explain(err); reason != "" {
		return fmt.Errorf("PostgreSQL cannot be used (LATCHKEY_DATABASE_URL, or LATCHKEY_DATABASE_DIRECT_URL where that is set): %s", reason)
	}
	return err
}

// hopeless says why no waiting mends err, "" if it may.
func hopeless(err error) string {
	return cmp.Or(postgres.Hopeless(err), config.HopelessRedis(err))
}
