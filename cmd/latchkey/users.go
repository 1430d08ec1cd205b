package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/hashforms"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

// usersCommand is `latchkey users`. It works on the database, not on a running service.
type usersCommand struct {
	cfg    *config.Config
	pool   *pgxpool.Pool
	log    *slog.Logger
	stdout io.Writer
	stderr io.Writer

	format     userfile.Format
	firebase   string
	pepper     string
	columns    userfile.Columns
	hashes     hashforms.Options
	dryRun     bool
	report     string
	json       bool
	withHashes bool
	file       string
}

func usersGroup() command {
	return command{
		name: "users", noun: "command ", about: "import or export: accounts in files, also in those of other programs",
		more: `Both work on the database at LATCHKEY_DATABASE_URL; the service need not run, and need not stop. docs/import.md lists the
fields, and says how to make the export of each program.
Exit codes: 0 done, 1 failed or some lines were refused, 2 usage or settings.`,
		group: []command{
			{
				name: "import", usage: "[--format FORMAT] [--columns NAMES] [--scheme NAME] [--prehash NAME] [--pepper-file FILE [--pepper-as NAME]] [--firebase-config FILE]" +
					" [--dry-run] [--report FILE] [--json] FILE",
				about: "make accounts from a file; - is standard input",
				more: `Formats: jsonl and csv (ours, as export writes them), and those of ` + foreignFormats() + `.
--format list describes each of them. Without --format the command recognizes the format if it is clear from the file.
Files may be compressed with gzip or encoded in UTF-16. Accounts that are already there stay as they are: run it again
after an interruption, or at any time.`,
				flags: importFlags,
			},
			{
				name: "export", usage: "[--format jsonl|csv] [--with-hashes] [FILE]",
				about: "write all accounts, oldest first, to a file or to standard output",
				more:  "The file must not exist yet; only its owner can read it. Times are UTC.",
				flags: exportFlags,
			},
		},
	}
}

func importFlags(flags *flag.FlagSet) runner {
	u := &usersCommand{stderr: os.Stderr}
	u.formatFlag(flags, "the `FORMAT` of the file, if it is not clear from the file; list prints all")
	flags.Func("columns", "the columns of a table of your own, as `NAMES` email=mail,password_hash=pw; names with dots lead into JSON\n"+
		"(emails.0.address). Others are read by our own names: "+wrapped(userfile.ColumnNames()), func(text string) (err error) {
		u.columns, err = userfile.ParseColumns(text)
		return err
	})
	flags.StringVar(&u.firebase, "firebase-config", "", "the `FILE` with the hash parameters that the Firebase console shows (hash_config { … })")
	flags.StringVar(&u.hashes.Scheme, "scheme", "", "the `NAME` of the form of hashes whose text does not show it, one of\n"+
		wrapped(hashforms.Schemes()))
	flags.StringVar(&u.hashes.Prehash, "prehash", "", "the `NAME` of the digest that the program hashed in place of the password, such as\nsha256-hex (Meteor, Rocket.Chat): one of\n"+
		wrapped(password.Prehashes()))
	flags.StringVar(&u.pepper, "pepper-file", "", "the `FILE` with the pepper that the program added to each password (Devise's config.pepper);\n"+
		"the service needs it too, in LATCHKEY_PASSWORD_PEPPERS")
	flags.StringVar(&u.hashes.PepperAs, "pepper-as", "", "the `NAME` of the way in which the program added it; without it, bcrypt's is Devise's and Argon2's is its secret.\nOne of "+
		wrapped(password.PepperWays()))
	flags.BoolVar(&u.dryRun, "dry-run", false, "write nothing, and print the summary that an import would have")
	flags.StringVar(&u.report, "report", "",
		"write each line that was refused to a `FILE`, as JSON Lines {\"line\", \"email\", \"reason\"};\nstandard error shows the first 100")
	flags.BoolVar(&u.json, "json", false, "print the summary as JSON")
	return u.runner("import", u.importFile)
}

func exportFlags(flags *flag.FlagSet) runner {
	u := &usersCommand{stderr: os.Stderr}
	u.formatFlag(flags, "the `FORMAT` to write, jsonl or csv; jsonl if it is not given")
	flags.BoolVar(&u.withHashes, "with-hashes", false, "with their password hashes: anybody who has them can try passwords without limits")
	return u.runner("export", u.exportFile)
}

func (u *usersCommand) formatFlag(flags *flag.FlagSet, about string) {
	flags.Func("format", about, func(text string) error {
		u.format = userfile.Format(text)
		return nil
	})
}

// runner checks the command line, opens the database, and runs do.
func (u *usersCommand) runner(name string, do func(context.Context) error) runner {
	return func(ctx context.Context, words, environ []string, stdout io.Writer) error {
		if name == "import" && u.format == "list" {
			return listFormats(stdout)
		}
		if err := u.check(name, words); err != nil {
			return err
		}
		var err error
		if u.cfg, err = databaseConfig(environ); err != nil {
			return err
		}
		u.pool, err = postgres.Open(ctx, postgres.Config{URL: app.DirectURL(u.cfg), MaxConns: 2})
		if err != nil {
			return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
		}
		defer u.pool.Close()
		u.log, u.stdout = newLogger(u.cfg, environ), stdout
		if err := u.checkSchema(ctx); err != nil {
			return err
		}
		return do(ctx)
	}
}

// foreignFormats returns the formats of other programs, separated by commas, in as many lines as the help needs.
func foreignFormats() string {
	const width, first = 115, 70
	var b strings.Builder
	left := width - first
	for i, f := range userfile.Formats()[2:] {
		if i > 0 {
			b.WriteByte(',')
			if left -= len(f) + 2; left < 0 {
				b.WriteByte('\n')
				left = width - len(f)
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteString(string(f))
	}
	return b.String()
}

// listFormats prints each format with the files that it reads.
func listFormats(stdout io.Writer) error {
	for _, f := range userfile.Formats() {
		if _, err := fmt.Fprintf(stdout, "%-12s %s\n", f, f.Describe()); err != nil {
			return err
		}
	}
	return nil
}

// check returns an error for arguments that the command does not take.
func (u *usersCommand) check(command string, words []string) error {
	known := userfile.Formats()
	if command == "export" {
		known = []userfile.Format{userfile.JSONL, userfile.CSV}
		if u.format == "" {
			u.format = userfile.JSONL
		}
	}
	if err := u.readPepper(); err != nil {
		return err
	}
	if err := u.hashes.Check(); err != nil {
		return &usageError{fmt.Sprintf("latchkey users %s: %v", command, err)}
	}
	switch {
	case u.format != "" && !slices.Contains(known, u.format):
		return &usageError{fmt.Sprintf("latchkey users %s: there is no format %q: use one of %v", command, u.format, known)}
	case len(words) > 1:
		return &usageError{fmt.Sprintf("latchkey users %s takes one file: unknown argument %q", command, words[1])}
	case command == "import" && (len(words) == 0 || words[0] == ""):
		return &usageError{"latchkey users import takes a file, or - for standard input"}
	case len(words) == 1:
		u.file = words[0]
	}
	return nil
}

// wrapped lists names, six a line.
func wrapped(names []string) string {
	var lines []string
	for line := range slices.Chunk(names, 6) {
		lines = append(lines, strings.Join(line, ", "))
	}
	return strings.Join(lines, ",\n")
}

// checkSchema refuses a table without the columns that this version writes.
func (u *usersCommand) checkSchema(ctx context.Context) error {
	return (&keysCommand{cfg: u.cfg}).checkSchema(ctx)
}

// since returns the time since start, rounded for a summary.
func since(start time.Time) time.Duration {
	return max(time.Since(start).Round(10*time.Millisecond), 10*time.Millisecond)
}
