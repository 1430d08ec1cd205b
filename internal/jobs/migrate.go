package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Migrate creates or updates River's tables, with one transaction for each step. If they have the newest version or a
// later one, it does nothing. The caller holds a lock, because two calls at the same time would collide.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := newMigrator(pool)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("jobs: migrate: %w", err)
	}
	return nil
}

// MigrationStatus is the version of River's tables.
type MigrationStatus struct {
	// Current is the version in the database, 0 before the first migration.
	Current int
	// Latest is the newest version that this binary knows.
	Latest int
}

// Status reads the version of River's tables.
func Status(ctx context.Context, pool *pgxpool.Pool) (MigrationStatus, error) {
	migrator, err := newMigrator(pool)
	if err != nil {
		return MigrationStatus{}, err
	}
	var s MigrationStatus
	for _, m := range migrator.AllVersions() {
		s.Latest = max(s.Latest, m.Version)
	}
	// This does not use ExistingVersions of the migrator, which fails if the database has a version that only a newer
	// binary knows.
	var exists bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass('river_migration') IS NOT NULL").Scan(&exists); err != nil {
		return MigrationStatus{}, fmt.Errorf("jobs: version of the tables: %w", err)
	}
	if !exists {
		return s, nil
	}
	if err := pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM river_migration").Scan(&s.Current); err != nil {
		return MigrationStatus{}, fmt.Errorf("jobs: version of the tables: %w", err)
	}
	return s, nil
}

// TakeBack removes River's tables and the jobs in them. If the tables have a queue that is not of this package, another
// program uses them: TakeBack leaves them and returns false.
func TakeBack(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	status, err := Status(ctx, pool)
	if err != nil || status.Current == 0 {
		return err == nil, err
	}
	var others bool
	err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM river_queue WHERE name <> ALL ($1)) OR EXISTS (SELECT FROM river_job WHERE queue <> ALL ($1))",
		slices.Collect(maps.Keys(queues()))).Scan(&others)
	if err != nil {
		return false, fmt.Errorf("jobs: whose tables they are: %w", err)
	}
	if others {
		return false, nil
	}
	migrator, err := newMigrator(pool)
	if err != nil {
		return false, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1}); err != nil {
		return false, fmt.Errorf("jobs: take back the tables: %w", err)
	}
	return true, nil
}

func newMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("jobs: migrator: %w", err)
	}
	return migrator, nil
}
