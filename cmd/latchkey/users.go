package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

const usersUsage = `usage: latchkey users import [--format FORMAT] [--firebase-config FILE] [--dry-run] [--report FILE] [--json] FILE
       latchkey users export [--format jsonl|csv] [--with-hashes] [FILE]

  import
        make accounts from a file; - is standard input. Formats: jsonl and csv (ours, as export writes them), auth0,
        firebase, keycloak, supabase, kratos; told from the file where it is clear, and gzip is fine. Accounts that are
        there are left as they are: run it again after an interruption, or at any time.
        --firebase-config  the file with the hash parameters that the Firebase console shows (hash_config { … })
        --dry-run          write nothing, and say what would happen
        --report           write each line that was refused to a file, as JSON Lines {"line", "email", "reason"};
                           standard error has the first 100
        --json             print the summary as JSON
  export
        write all accounts, oldest first, to a file (which must not exist, and only its owner may read) or to standard
        output. Times are UTC.
        --with-hashes      with their password hashes: whoever has them can try passwords at leisure

Both work on the database at LATCHKEY_DATABASE_URL; no service need run, and none need stop. docs/import.md has the
fields, and what each program's export has to be made with.
Exit codes: 0 done, 1 failed, or some lines were refused, 2 usage or settings.`

// usersCommand is `latchkey users`. It works on the database.
type usersCommand struct {
	cfg    *config.Config
	pool   *pgxpool.Pool
	log    *slog.Logger
	stdout io.Writer
	stderr io.Writer

	format     userfile.Format
	firebase   string
	dryRun     bool
	report     string
	json       bool
	withHashes bool
	file       string
}

func users(ctx context.Context, args, environ []string, stdout io.Writer) error {
	u := &usersCommand{stdout: stdout, stderr: os.Stderr}
	do, err := u.parse(args)
	if err != nil {
		return err
	}
	u.cfg, err = databaseConfig(environ)
	if err != nil {
		return err
	}
	u.pool, err = postgres.Open(ctx, postgres.Config{URL: app.DirectURL(u.cfg), MaxConns: 2})
	if err != nil {
		return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	defer u.pool.Close()
	u.log = newLogger(u.cfg, environ)
	if err := u.checkSchema(ctx); err != nil {
		return err
	}
	return do(ctx)
}

// parse reads the command line.
func (u *usersCommand) parse(args []string) (func(context.Context) error, error) {
	if len(args) == 0 {
		return nil, &usageError{usersUsage}
	}
	flags := flag.NewFlagSet("users", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("format", "", func(text string) error {
		u.format = userfile.Format(text)
		return nil
	})
	var do func(context.Context) error
	switch args[0] {
	case "import":
		do = u.importFile
		flags.StringVar(&u.firebase, "firebase-config", "", "")
		flags.BoolVar(&u.dryRun, "dry-run", false, "")
		flags.StringVar(&u.report, "report", "", "")
		flags.BoolVar(&u.json, "json", false, "")
	case "export":
		do = u.exportFile
		flags.BoolVar(&u.withHashes, "with-hashes", false, "")
	default:
		return nil, &usageError{fmt.Sprintf("latchkey users: there is no command %q\n\n%s", args[0], usersUsage)}
	}
	words, err := wordsBeside(flags, args[1:])
	if err != nil {
		return nil, &usageError{fmt.Sprintf("latchkey users %s: %v\n\n%s", args[0], err, usersUsage)}
	}
	return do, u.check(args[0], words)
}

// check refuses what a command does not take.
func (u *usersCommand) check(command string, words []string) error {
	known := userfile.Formats()
	if command == "export" {
		known = []userfile.Format{userfile.JSONL, userfile.CSV}
		if u.format == "" {
			u.format = userfile.JSONL
		}
	}
	switch {
	case u.format != "" && !slices.Contains(known, u.format):
		return &usageError{fmt.Sprintf("latchkey users %s: there is no format %q; there are %v", command, u.format, known)}
	case len(words) > 1:
		return &usageError{fmt.Sprintf("latchkey users %s takes one file: what is %q?", command, words[1])}
	case command == "import" && (len(words) == 0 || words[0] == ""):
		return &usageError{"latchkey users import takes a file, or - for standard input"}
	case len(words) == 1:
		u.file = words[0]
	}
	return nil
}

// wordsBeside takes flags before, between and after the other words.
func wordsBeside(flags *flag.FlagSet, args []string) ([]string, error) {
	var words []string
	for rest := args; len(rest) > 0; {
		if err := flags.Parse(rest); err != nil {
			return nil, err
		}
		taken := len(rest) - flags.NArg()
		if taken > 0 && rest[taken-1] == "--" { // what follows is no flag, whatever it begins with
			return append(words, flags.Args()...), nil
		}
		if rest = flags.Args(); len(rest) > 0 {
			words, rest = append(words, rest[0]), rest[1:]
		}
	}
	return words, nil
}

// checkSchema refuses a table that lacks what this version writes.
func (u *usersCommand) checkSchema(ctx context.Context) error {
	return (&keysCommand{cfg: u.cfg}).checkSchema(ctx)
}

// since is the time since start, as a summary shows it.
func since(start time.Time) time.Duration {
	return max(time.Since(start).Round(10*time.Millisecond), 10*time.Millisecond)
}
