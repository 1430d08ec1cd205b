package mail

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Migrate creates or updates the tables of the outbox, one transaction per step.
// It does nothing when they are at the newest version or beyond it. The caller
// holds a lock: two at a time would collide.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := newMigrator(pool)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("mail: migrate outbox: %w", err)
	}
	return nil
}

// MigrationStatus is where the outbox's tables are.
type MigrationStatus struct {
	// Current is the version in the database, 0 before the first migration.
	Current int
	// Latest is the newest version this binary knows.
	Latest int
}

// Status reads the version of the outbox's tables.
func Status(ctx context.Context, pool *pgxpool.Pool) (MigrationStatus, error) {
	migrator, err := newMigrator(pool)
	if err != nil {
		return MigrationStatus{}, err
	}
	var s MigrationStatus
	for _, m := range migrator.AllVersions() {
		s.Latest = max(s.Latest, m.Version)
	}
	// Not ExistingVersions of the migrator, which fails on a version that only a
	// newer binary knows.
	var exists bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass('river_migration') IS NOT NULL").Scan(&exists); err != nil {
		return MigrationStatus{}, fmt.Errorf("mail: outbox version: %w", err)
	}
	if !exists {
		return s, nil
	}
	if err := pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM river_migration").Scan(&s.Current); err != nil {
		return MigrationStatus{}, fmt.Errorf("mail: outbox version: %w", err)
	}
	return s, nil
}

// TakeBack removes the tables of the outbox, with the mails in them. It leaves them and returns false where another
// program uses the same tables: where they have a queue that is not the outbox's.
func TakeBack(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	status, err := Status(ctx, pool)
	if err != nil || status.Current == 0 {
		return err == nil, err
	}
	var others bool
	err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM river_queue WHERE name <> ALL ($1)) OR EXISTS (SELECT FROM river_job WHERE queue <> ALL ($1))",
		[]string{queueLinks, queueNotices, queueFormer, queueUpkeep}).Scan(&others)
	if err != nil {
		return false, fmt.Errorf("mail: whose outbox it is: %w", err)
	}
	if others {
		return false, nil
	}
	migrator, err := newMigrator(pool)
	if err != nil {
		return false, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1}); err != nil {
		return false, fmt.Errorf("mail: take back the outbox: %w", err)
	}
	return true, nil
}

func newMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("mail: migrator: %w", err)
	}
	return migrator, nil
}
