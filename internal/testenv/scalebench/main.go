// Command scalebench measures Latchkey with ten million accounts and a million live sessions beside ten thousand
// accounts and a thousand sessions, in one run on one machine:
//
//	go tool -modfile=tools/go.mod task bench:scale
//	go tool -modfile=tools/go.mod task bench:scale -- -accounts 100000
//
// It loads two databases of one PostgreSQL and two Redis servers, in the shape in which the service writes: accounts
// with COPY, sessions through internal/session. On each pair it starts `latchkey serve` and checks that loaded accounts
// can log in and that loaded sessions can be refreshed. Then it calls both in turn, round after round, so that noise
// affects both, and prints the times, the plans of the queries, the bytes that a row takes, and how many revocations a
// second the ledger takes while a flush of the disk is fast and while it is slow.
//
// The exit code is 0 if everything was measured, 1 if something failed and 2 for a wrong command line. No figure makes
// it fail.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// options are the command line.
type options struct {
	accounts, sessions, rows int64
	smallAccounts            int64
	rounds                   int
	window                   time.Duration
	latchkey, jsonFile, dir  string
	sharedBuffers            string
	only                     string
}

// parts are what a run can measure; -only names some of them.
func parts() []string { return []string{"calls", "start", "plans", "bytes", "appends"} }

// does returns whether the run has this part.
func (o options) does(part string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), part)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(*usageError)):
		fmt.Fprintln(os.Stderr, "scalebench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "scalebench:", err)
		os.Exit(1)
	}
}

// usageError is a wrong command line.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux: files are dropped from the page cache there, and the load is read from /proc")
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if err := devstack.DieWithParent(); err != nil {
		return err
	}
	r, err := measure(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	if o.jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(o.jsonFile, append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return r.print(stdout)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("scalebench", flag.ContinueOnError)
	flags.Int64Var(&o.accounts, "accounts", 10_000_000, "accounts of the large database; about 1 KB of disk each")
	flags.Int64Var(&o.sessions, "sessions", -1, "live sessions of the large database; -1: one for ten accounts")
	flags.Int64Var(&o.rows, "revocations", -1, "rows of the large database's ledger; -1: one for ten accounts")
	flags.Int64Var(&o.smallAccounts, "beside", 10_000, "accounts of the small database; its sessions and rows are in the same proportion")
	flags.IntVar(&o.rounds, "rounds", -1, "alternating rounds; -1: 5 from a million accounts on, else 2")
	flags.DurationVar(&o.window, "window", 0, "how long each call is measured in each round; 0: 3s from a million accounts on, else 300ms")
	flags.StringVar(&o.latchkey, "latchkey", "", "measure this `binary` instead of building one")
	flags.StringVar(&o.jsonFile, "json", "", "also write everything that was measured to this `file`")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "keep the data in this `folder`, until the end of the run")
	flags.StringVar(&o.sharedBuffers, "shared-buffers", "2GB", "PostgreSQL's shared_buffers")
	flags.StringVar(&o.only, "only", "", "measure only these `parts`, separated by commas: "+strings.Join(parts(), ", "))
	err := flags.Parse(args)
	if o.sessions < 0 {
		o.sessions = o.accounts / 10
	}
	if o.rows < 0 {
		o.rows = o.accounts / 10
	}
	rounds, window := 2, 300*time.Millisecond
	if o.accounts >= 1_000_000 {
		rounds, window = 5, 3*time.Second
	}
	if o.rounds < 0 {
		o.rounds = rounds
	}
	if o.window == 0 {
		o.window = window
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, &usageError{err}
	case flags.NArg() > 0:
		return o, &usageError{fmt.Errorf("takes no arguments, but there is %q", flags.Arg(0))}
	case o.smallAccounts < 1000 || o.accounts < o.smallAccounts:
		return o, &usageError{errors.New("-beside must be 1000 or more, and -accounts not less")}
	case o.sessions < sessionsEach || o.sessions > sessionsEach*o.accounts || o.rows < 1:
		return o, &usageError{fmt.Errorf("-sessions must be from %d to %d for each account, -revocations 1 or more", sessionsEach, sessionsEach)}
	case o.rounds < 1 || o.window < 100*time.Millisecond:
		return o, &usageError{errors.New("-rounds must be 1 or more and -window 100ms or more")}
	}
	for part := range strings.SplitSeq(o.only, ",") {
		if part != "" && !slices.Contains(parts(), part) {
			return o, &usageError{fmt.Errorf("-only %s: there is no such part", part)}
		}
	}
	return o, nil
}
