package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

const (
	// storePatience is how long the stores may take to come up: containers start in
	// any order.
	storePatience = 30 * time.Second
	storeRetry    = 500 * time.Millisecond
	storeAttempt  = 5 * time.Second
	// closeTime is what connections in use get when the service has stopped.
	closeTime = 2 * time.Second
)

// stores are the two that the service keeps its truth in.
type stores struct {
	pool  *pgxpool.Pool
	redis redis.UniversalClient
}

// openStores connects to both, waits for them if need be, and brings the schema up
// to date or makes sure that it is.
func openStores(ctx context.Context, cfg *config.Config, log *slog.Logger) (*stores, error) {
	pool, err := postgres.Open(ctx, postgres.Config{URL: string(cfg.DatabaseURL), MaxConns: cfg.DatabaseMaxConns})
	if err != nil {
		return nil, config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	s := &stores{pool, cfg.RedisURL.Client()}
	if err := s.prepare(ctx, cfg, log); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stores) prepare(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	err := await(ctx, log, "PostgreSQL", "LATCHKEY_DATABASE_URL", func(ctx context.Context) error {
		return postgres.CheckServer(ctx, s.pool)
	})
	if err != nil {
		return err
	}
	err = await(ctx, log, "Redis", "LATCHKEY_REDIS_URL", func(ctx context.Context) error {
		return s.redis.Ping(ctx).Err()
	})
	if err != nil {
		return err
	}
	if err := checkEviction(ctx, cfg, s.redis, log); err != nil {
		return err
	}
	if cfg.Migrate {
		applied, err := schema(cfg).Up(ctx, func(ctx context.Context) error { return afterMigrations(ctx, s.pool) })
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

// afterMigrations brings up to date what is no migration of ours: the outbox's tables,
// and the form in which addresses are compared, which SQL cannot compute.
func afterMigrations(ctx context.Context, pool *pgxpool.Pool) error {
	if err := mail.Migrate(ctx, pool); err != nil {
		return err
	}
	if _, err := address.Fill(ctx, pool); err != nil {
		return fmt.Errorf("fill users.email_lookup: %w", err)
	}
	return nil
}

// checkSchema refuses a database that lacks a migration. One that has more is fine:
// migrations only add.
func (s *stores) checkSchema(ctx context.Context, cfg *config.Config) error {
	list, err := schema(cfg).Status(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	outbox, err := mail.Status(ctx, s.pool)
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

// close ends the connections. The pool waits for those in use: the last queries have
// their answers, unless PostgreSQL hangs.
func (s *stores) close() {
	closed := make(chan struct{})
	go func() {
		s.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTime):
	}
	_ = s.redis.Close() // nothing is written through it any more
}

func schema(cfg *config.Config) postgres.Migrations {
	return postgres.Migrations{URL: string(cfg.DatabaseURL), FS: migrations.FS, CheckUp: postgres.CheckForeign}
}

// await tries until a store answers, for storePatience. The first failure is told
// at once: whoever waits should know for what.
func await(ctx context.Context, log *slog.Logger, store, variable string, try func(context.Context) error) error {
	deadline := time.Now().Add(storePatience)
	for attempt := 0; ; attempt++ {
		once, cancel := context.WithTimeout(ctx, storeAttempt)
		err := try(once)
		cancel()
		var unfit *postgres.UnfitError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &unfit):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%s did not answer for %s (%s): %w", store, storePatience, variable, err)
		case attempt == 0:
			log.WarnContext(ctx, "waiting for a store", "store", store, "variable", variable, "for_at_most", storePatience, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(storeRetry):
		}
	}
}
