package main

import (
	"context"
	"fmt"
	"io"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const migrateUsage = `usage: latchkey migrate up|down|status

  up       bring the schema of the database at LATCHKEY_DATABASE_URL up to date
  down     take back the last migration
  status   list the migrations, applied and pending

Exit codes: 0 done, 1 failed, 2 usage or settings.`

func migrate(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if len(args) != 1 {
		return &usageError{migrateUsage}
	}
	cfg, err := databaseConfig(environ)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return migrateUp(ctx, cfg, stdout)
	case "down":
		name, err := schema(cfg).Down(ctx)
		if err != nil {
			return err
		}
		if name == "" {
			name = "nothing: no migration is left"
		}
		_, err = fmt.Fprintln(stdout, "took back", name)
		return err
	case "status":
		return migrateStatus(ctx, cfg, stdout)
	}
	return &usageError{fmt.Sprintf("latchkey migrate: there is no %q\n%s", args[0], migrateUsage)}
}

func migrateUp(ctx context.Context, cfg *config.Config, stdout io.Writer) error {
	pool, err := postgres.Open(ctx, postgres.Config{URL: string(cfg.DatabaseURL)})
	if err != nil {
		return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	defer pool.Close()
	applied, err := schema(cfg).Up(ctx, func(ctx context.Context) error { return afterMigrations(ctx, pool) })
	for _, name := range applied {
		if _, err := fmt.Fprintln(stdout, "applied", name); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "the schema is up to date")
	return err
}

func migrateStatus(ctx context.Context, cfg *config.Config, stdout io.Writer) error {
	list, err := schema(cfg).Status(ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		state := "pending"
		if m.Applied {
			state = "applied"
		}
		if _, err := fmt.Fprintf(stdout, "%-8s %s\n", state, m.Name); err != nil {
			return err
		}
	}
	pool, err := postgres.Open(ctx, postgres.Config{URL: string(cfg.DatabaseURL)})
	if err != nil {
		return err
	}
	defer pool.Close()
	outbox, err := mail.Status(ctx, pool)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "mail outbox: version %d of %d\n", outbox.Current, outbox.Latest)
	return err
}
