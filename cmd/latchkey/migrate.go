package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

func migrateGroup() command {
	return command{
		name: "migrate", about: "up, down or status: the database schema",
		more: `They work on the database at LATCHKEY_DATABASE_URL.
Exit codes: 0 done, 1 failed, 2 usage or settings.`,
		group: []command{
			{name: "up", about: "bring the schema up to date", run: migrateRunner(migrateUp)},
			{
				name: "down", usage: "[--yes]", about: "take back the newest migration, and delete what its tables hold",
				more: `It asks first, on standard input. Each run takes back one migration; the last one removes all that Latchkey made
except accounts. It refuses while replicas run.`,
				flags: func(flags *flag.FlagSet) runner {
					sure := flags.Bool("yes", false, "do not ask")
					return migrateRunner(func(ctx context.Context, cfg *config.Config, stdout io.Writer) error {
						return migrateDown(ctx, cfg, *sure, os.Stdin, os.Stderr, stdout)
					})
				},
			},
			{name: "status", about: "list the migrations, applied and pending", run: migrateRunner(migrateStatus)},
		},
	}
}

// migrateRunner reads the settings for a command that takes no words.
func migrateRunner(do func(context.Context, *config.Config, io.Writer) error) runner {
	return func(ctx context.Context, args, environ []string, stdout io.Writer) error {
		if len(args) > 0 {
			return &usageError{migrateGroup().help()}
		}
		cfg, err := databaseConfig(environ)
		if err != nil {
			return err
		}
		return do(ctx, cfg, stdout)
	}
}

// migrateDown asks, takes back one migration, and prints the result.
func migrateDown(ctx context.Context, cfg *config.Config, sure bool, answers io.Reader, questions, stdout io.Writer) error {
	pool, err := postgres.Open(ctx, postgres.Config{URL: app.DirectURL(cfg), Name: "latchkey migrate"})
	if err != nil {
		return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	defer pool.Close()
	m := app.Schema(cfg)
	m.CheckDown = func(ctx context.Context, conn *pgx.Conn) error {
		if err := postgres.CheckTakeBack(ctx, conn); err != nil || sure {
			return err
		}
		return ask(questions, answers, fmt.Sprintf("This takes back the newest migration of database %q on %s, and deletes what is in its tables.", conn.Config().Database, conn.Config().Host))
	}
	m.BeforeDown = postgres.NoteTakeBack
	m.BeforeFirst = func(ctx context.Context, conn *pgx.Conn) error {
		kept, err := postgres.TakeBackUsers(ctx, conn)
		if err != nil {
			return err
		}
		if kept {
			if _, err := fmt.Fprintln(stdout, "the table users stays, because it holds accounts: DROP TABLE users is your decision"); err != nil {
				return err
			}
		}
		if err := tellTakenBack(ctx, conn, stdout); err != nil {
			return err
		}
		whole, err := jobs.TakeBack(ctx, pool)
		if err == nil && !whole {
			_, err = fmt.Fprintln(stdout, "the tables of River stay, because another program uses them")
		}
		return err
	}
	name, err := m.Down(ctx)
	if err != nil {
		return err
	}
	if name == "" {
		name = "nothing: no migration is left"
	}
	_, err = fmt.Fprintln(stdout, "took back", name)
	return err
}

// tellTakenBack prints what postgres.NoteTakeBack has written, if anything.
func tellTakenBack(ctx context.Context, conn *pgx.Conn, stdout io.Writer) error {
	var noted bool
	err := conn.QueryRow(ctx, "SELECT to_regclass('latchkey_taken_back') IS NOT NULL").Scan(&noted)
	if err == nil && noted {
		_, err = fmt.Fprintln(stdout, "the table latchkey_taken_back stays, with the time: if Latchkey ever comes back here, it refuses sessions and tokens from before, "+
			"some of which had ended. DROP TABLE latchkey_taken_back if it never does")
	}
	return err
}

// ask returns nil only if the answer is yes.
func ask(questions io.Writer, answers io.Reader, what string) error {
	if _, err := fmt.Fprint(questions, what, " Type yes to go on: "); err != nil {
		return err
	}
	answer, err := bufio.NewReader(answers).ReadString('\n')
	if strings.TrimSpace(answer) == "yes" {
		return nil
	}
	if err != nil {
		return &usageError{"latchkey migrate down: nobody answered, and nothing was changed: add --yes"}
	}
	return errors.New("latchkey migrate down: the answer was not yes, and nothing was changed")
}

func migrateUp(ctx context.Context, cfg *config.Config, stdout io.Writer) error {
	pool, err := postgres.Open(ctx, postgres.Config{URL: app.DirectURL(cfg), Name: "latchkey migrate"})
	if err != nil {
		return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	defer pool.Close()
	applied, err := app.Schema(cfg).Up(ctx, func(ctx context.Context) error { return app.AfterMigrations(ctx, pool) })
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
	list, err := app.Schema(cfg).Status(ctx)
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
	pool, err := postgres.Open(ctx, postgres.Config{URL: app.DirectURL(cfg), Name: "latchkey migrate"})
	if err != nil {
		return err
	}
	defer pool.Close()
	outbox, err := jobs.Status(ctx, pool)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "mail outbox: version %d of %d\n", outbox.Current, outbox.Latest)
	return err
}
