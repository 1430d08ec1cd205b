package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

// olderCommands is the hook of the command table: it returns the commands that exist only for the older backends.
func olderCommands() []command { return []command{takeoverGroup()} }

// exitDecisions is the exit code of `takeover check` when somebody has to decide something.
const exitDecisions = 3

// decisionsError is the result of a check that found no problem but a decision to make.
type decisionsError struct{ count int64 }

// Error implements error.
func (e *decisionsError) Error() string {
	return "latchkey takeover: several accounts share " + plural(e.count, "address") + ": decide which account holds each of them"
}

func (*decisionsError) exitCode() int { return exitDecisions }

// takeoverCommand is `latchkey takeover`. It works on the stores of an older backend, which may serve meanwhile.
type takeoverCommand struct {
	cfg    *config.Config
	log    *slog.Logger
	stdout io.Writer
	keys   takeover.Keys

	restartTold string // the migration whose new column was reported
}

func takeoverGroup() command {
	return command{
		name: "takeover", about: "check or apply: take over the database and Redis of an older backend",
		more: `docs/takeover.md describes the whole move.
Exit codes: 0 clear or done, 1 failed, 2 usage or settings, 3 there is something for you to decide.`,
		group: []command{
			{
				name: "check", usage: "[--json] [--token FILE]",
				about: "read the older backend's database and Redis, change nothing, and print their state and the steps of apply",
				flags: func(flags *flag.FlagSet) runner {
					asJSON := flags.Bool("json", false, "print the report as JSON")
					tokenFile := flags.String("token", "", "a `FILE` with a token of an older backend, to check its key with")
					return takeoverRunner(tokenFile, func(ctx context.Context, t *takeoverCommand) error { return t.checkOnly(ctx, *asJSON) })
				},
			},
			{
				name: "apply", usage: "[--holder USER_ID]...",
				about: "migrate in small steps beside the running backend; can be killed and run again",
				flags: func(flags *flag.FlagSet) runner {
					var holders []uuid.UUID
					flags.Func("holder", "the `USER_ID` of the account that shall hold an address that several accounts share", func(text string) error {
						id, err := uuid.Parse(text)
						holders = append(holders, id)
						return err
					})
					return takeoverRunner(new(string), func(ctx context.Context, t *takeoverCommand) error { return t.apply(ctx, holders) })
				},
			},
		},
	}
}

// takeoverRunner reads the settings and the older backends' keys.
func takeoverRunner(tokenFile *string, do func(context.Context, *takeoverCommand) error) runner {
	return func(ctx context.Context, words, environ []string, stdout io.Writer) error {
		if len(words) > 0 {
			return takeoverGroup().wrongUsage(fmt.Sprintf("unknown argument %q", words[0]))
		}
		cfg, err := databaseConfig(environ)
		if err != nil {
			return err
		}
		t := &takeoverCommand{cfg: cfg, log: newLogger(cfg, environ), stdout: stdout}
		t.keys, err = takeoverKeys(cfg, *tokenFile)
		if err != nil {
			return err
		}
		return do(ctx, t)
	}
}

// connectTime is how long one store has to answer: a person waits for the command.
const connectTime = 10 * time.Second

func (t *takeoverCommand) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	return postgres.Connect(ctx, app.DirectURL(t.cfg), "latchkey takeover")
}

// check reads both stores. Errors of the stores are problems of the report; check itself returns only other errors.
func (t *takeoverCommand) check(ctx context.Context) (*takeover.Report, error) {
	cfg := takeover.Config{
		Migrations: migrations.FS, Keys: t.keys, Now: time.Now,
		Hash: password.CheckStored,
	}
	var before []takeover.Finding
	conn, err := t.connect(ctx)
	if err != nil {
		before = append(before, takeover.Finding{Code: "database_unreachable", Text: "PostgreSQL cannot be reached (LATCHKEY_DATABASE_URL): " + oneLine(err)})
	} else {
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
		cfg.Conn = conn
	}
	if t.cfg.RedisURL.IsZero() {
		before = append(before, takeover.Finding{Code: "no_redis", Text: "LATCHKEY_REDIS_URL is not set: only the database was checked", Right: "the older backend's Redis"})
	} else {
		cache, err := app.RedisURL(t.cfg)
		if err != nil {
			return nil, err
		}
		client := cache.Client()
		defer client.Close() //nolint:errcheck // it was only read from
		once, cancel := context.WithTimeout(ctx, connectTime)
		err = client.Ping(once).Err()
		cancel()
		if err != nil {
			before = append(before, takeover.Finding{Code: "redis_unreachable", Text: "Redis cannot be reached (LATCHKEY_REDIS_URL): " + oneLine(err)})
		} else {
			cfg.Redis = client
		}
	}
	cfg.Before = before
	report := takeover.Check(ctx, cfg)
	return report, ctx.Err()
}

// oneLine joins the lines of an error: the driver writes each of its attempts on a separate line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (t *takeoverCommand) checkOnly(ctx context.Context, asJSON bool) error {
	report, err := t.check(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = printReport(t.stdout, report)
	}
	if err != nil {
		return err
	}
	return outcome(report)
}

// outcome returns the error of the command for a report.
func outcome(report *takeover.Report) error {
	switch report.Status {
	case takeover.Failed:
		return fmt.Errorf("latchkey takeover: %s in the report must be solved first", plural(int64(len(report.Problems)), "problem"))
	case takeover.Decisions:
		return &decisionsError{report.DecisionsTotal}
	case takeover.Clear:
		return nil
	}
	return errors.New("latchkey takeover: unknown status " + string(report.Status))
}
