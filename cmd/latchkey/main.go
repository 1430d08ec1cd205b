// Command latchkey is a self-hosted authentication service for teams that speak
// gRPC. `latchkey dev` runs it with stores of its own; `latchkey serve` runs it for
// others.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

// Exit codes are part of what scripts rely on.
const (
	exitDone      = 0
	exitFailed    = 1
	exitUsage     = 2 // usage or settings
	exitDecisions = 3 // takeover check: somebody has to decide something
)

// sameWish is how long after the first signal to stop further SIGTERMs say nothing new:
// when `go run` is killed, the kernel sends one for each thread of the go tool, all
// within milliseconds.
const sameWish = 5 * time.Second

func main() {
	err := run(untilSignal(context.Background()), os.Args[1:], os.Environ(), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// untilSignal returns a context that ends with the first signal to stop. From then on
// Ctrl-C ends the process at once, and after sameWish SIGTERM does. SIGHUP never does:
// shell and kernel both send it when a terminal is closed.
func untilSignal(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		signal.Reset(os.Interrupt)
		cancel()
		time.Sleep(sameWish)
		signal.Reset(syscall.SIGTERM)
	}()
	return ctx
}

func exitCode(err error) int {
	var settings *config.Error
	var usage *usageError
	var decisions *decisionsError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &settings), errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &decisions):
		return exitDecisions
	}
	return exitFailed
}

// usageError is a command line that means nothing.
type usageError struct{ text string }

// Error implements error.
func (e *usageError) Error() string { return e.text }

// command is one subcommand. usage is printed for whoever asks for help, before any
// setting is read.
type command struct {
	name  string
	about string
	usage string
	run   func(ctx context.Context, args, environ []string, stdout io.Writer) error
}

func commands() []command {
	return []command{
		{"dev", "run everything on this machine, PostgreSQL and Redis included, and catch mails", devUsage, dev},
		{"serve", "run the service; stores and secrets come from the environment", serveUsage, serve},
		{"migrate", "up, down or status: the database schema", migrateUsage, migrate},
		{"keys", "list, rotate or revoke: the keys that sign access tokens", keysUsage, keys},
		{"users", "import or export: accounts in files, those of other programs too", usersUsage, users},
		{"admin", "find, suspend and reactivate accounts, end sessions: calls a running service", adminUsage(), admin},
		{"mail", "test: send a mail with the settings in force", mailUsage, runMail},
		{"takeover", "check or apply: take over the database and Redis of an old backend", takeoverUsage, runTakeover},
		{"healthcheck", "ask the service on this machine whether it serves; exit 0 or 1", healthcheckUsage, healthcheck},
		{"config", "print the settings in force, secrets hidden", configUsage, printConfig},
		{"version", "print the version", versionUsage, printVersion},
	}
}

func findCommand(name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	return command{}, &usageError{fmt.Sprintf("latchkey: there is no command %q\n\n%s", name, usage())}
}

// run is the whole program: what main does with the process's own arguments,
// environment and output.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if len(args) == 0 {
		return &usageError{usage()}
	}
	name, rest := args[0], args[1:]
	switch {
	case name == "--version" || name == "-version":
		return printVersion(ctx, rest, environ, stdout)
	case isHelp(name) && len(rest) > 0 && !isHelp(rest[0]): // latchkey help keys
		name, rest = rest[0], []string{"help"}
	case isHelp(name):
		_, err := fmt.Fprintln(stdout, usage())
		return err
	}
	c, err := findCommand(name)
	if err != nil {
		return err
	}
	if wantsHelp(rest) {
		_, err := fmt.Fprintln(stdout, c.usage)
		return err
	}
	return app.Explain(c.run(ctx, rest, environ, stdout))
}

func usage() string {
	var b strings.Builder
	b.WriteString("usage: latchkey COMMAND\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n  %-12s %s", c.name, c.about)
	}
	b.WriteString("\n\nEverything is set by environment variables: `latchkey config` lists them. `latchkey COMMAND --help` says more.")
	return b.String()
}

// noArguments is for commands that take none.
func noArguments(name string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Sprintf("latchkey %s takes no arguments: what is %q? Settings are environment variables, see `latchkey config`.", name, args[0])}
}
