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
	// StorePatience is how long a start waits for the stores: containers start in any order.
	StorePatience = 30 * time.Second
	storeRetry    = 500 * time.Millisecond
	storeAttempt  = 5 * time.Second
	// closeTime is how long connections in use may stay open after the service has stopped.
	closeTime = 2 * time.Second
	// ownConns is the number of connections beside the pool: two follow the ledger, one listens for mails.
	ownConns = 3
	// directConns is the size of the pool that goes past a pooler. It is small: what needs PostgreSQL itself
	// opens connections of its own.
	directConns = 2
)

// Stores are PostgreSQL and Redis, in which the service keeps everything.
type Stores struct {
	Pool  *pgxpool.Pool
	Redis redis.UniversalClient
	// Direct leads to PostgreSQL itself if Pool goes through a pooler in transaction mode; otherwise it is
	// nil.
	Direct *pgxpool.Pool
	pooler postgres.Pooler
}

// OpenStores connects to both stores and waits for them if necessary. It brings the schema up to date, or
// checks that it is.
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

// connect waits for PostgreSQL and opens the pools. How depends on whether a pooler is in between.
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
	if err := s.logPooler(ctx, cfg, log); err != nil {
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

// logPooler logs which pooler is between Latchkey and PostgreSQL, and what it needs.
func (s *Stores) logPooler(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	switch s.pooler {
	case postgres.NoPooler:
		return nil
	case postgres.SessionPooler:
		log.InfoContext(ctx, "a pooler in session mode is between Latchkey and PostgreSQL: its pool must have room for all connections of Latchkey",
			"setting", "LATCHKEY_DATABASE_MAX_CONNS", "connections", cfg.DatabaseMaxConns+ownConns)
	case postgres.TransactionPooler:
		warning, err := postgres.CheckTransactionPooler(ctx, string(cfg.DatabaseURL))
		if err != nil {
			return fmt.Errorf("LATCHKEY_DATABASE_URL: %w", err)
		}
		log.InfoContext(ctx, "a pooler in transaction mode is between Latchkey and PostgreSQL: connections that follow the ledger or migrate go past it", "setting", "LATCHKEY_DATABASE_DIRECT_URL")
		if warning != "" {
			log.WarnContext(ctx, "through this pooler Latchkey cannot limit how long statements and transactions take: set the limits for the role", "sql", warning)
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

// AfterMigrations does what no migration of ours does: it brings the tables of River up to date, and
// fills the column with the form in which addresses are compared, which SQL cannot compute.
func AfterMigrations(ctx context.Context, pool *pgxpool.Pool) error {
	if err := jobs.Migrate(ctx, pool); err != nil {
		return err
	}
	if _, err := address.Fill(ctx, pool); err != nil {
		return fmt.Errorf("fill users.email_lookup: %w", err)
	}
	return nil
}

// checkSchema returns an error if the database lacks a migration. More migrations than this version has are
// fine, because migrations only add.
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

// Close closes the connections. It waits for those in use, so that the last queries get their answers, but
// not for long if PostgreSQL hangs.
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
	_ = s.Redis.Close() // nothing uses it any more
}

// Schema returns the migrations, for the database of the settings.
func Schema(cfg *config.Config) postgres.Migrations {
	return postgres.Migrations{URL: DirectURL(cfg), FS: migrations.FS, CheckUp: postgres.CheckForeign}
}

// DirectURL returns the URL that leads to PostgreSQL past a pooler, if one is set, else the usual one.
func DirectURL(cfg *config.Config) string {
	return string(cmp.Or(cfg.DatabaseDirectURL, cfg.DatabaseURL))
}

// await tries until a store answers, up to StorePatience. It logs the first failure at once, so that the
// operator knows what the start waits for.
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

// Explain says in an operator's words why a command could not use PostgreSQL. It returns other errors
// unchanged.
func Explain(err error) error {
	if reason := postgres.Explain(err); reason != "" {
		return fmt.Errorf("PostgreSQL cannot be used (LATCHKEY_DATABASE_URL, or LATCHKEY_DATABASE_DIRECT_URL if that is set): %s", reason)
	}
	return err
}

// hopeless says why waiting does not help against err, "" if it may help.
func hopeless(err error) string {
	return cmp.Or(postgres.Hopeless(err), config.HopelessRedis(err))
}
