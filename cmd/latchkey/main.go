// Command latchkey is a self-hosted authentication service for teams that speak gRPC. `latchkey dev` runs it
// with stores of its own; `latchkey serve` runs it for others.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

// Scripts rely on the exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // usage or settings
)

// signalBurst is how long further SIGTERMs are ignored after the first signal: when `go run` is killed, the
// kernel sends one for each thread of the go tool, all within milliseconds.
const signalBurst = 5 * time.Second

func main() {
	err := run(untilSignal(context.Background()), os.Args[1:], os.Environ(), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// untilSignal returns a context that ends with the first signal to stop. After that, Ctrl-C ends the process
// at once, and after signalBurst so does SIGTERM. A second SIGHUP never does, because both the shell and the
// kernel send one when a terminal is closed.
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
		time.Sleep(signalBurst)
		signal.Reset(syscall.SIGTERM)
	}()
	return ctx
}

func exitCode(err error) int {
	var settings *config.Error
	var usage *usageError
	var own codedError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &settings), errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &own):
		return own.exitCode()
	}
	return exitFailed
}

// codedError is an error with an exit code of its own.
type codedError interface {
	error
	exitCode() int
}

// usageError reports a command line that cannot be run as it is.
type usageError struct{ text string }

// Error implements error.
func (e *usageError) Error() string { return e.text }

// run is the whole program. main calls it with the arguments, environment and output of the process.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if len(args) == 0 {
		return &usageError{usage()}
	}
	name, rest := args[0], args[1:]
	asked := false
	switch {
	case name == "--version" || name == "-version":
		return printVersion(ctx, rest, environ, stdout)
	case name == completeName:
		return printCandidates(stdout, rest)
	case isHelp(name) && len(rest) > 0 && !isHelp(rest[0]): // latchkey help keys
		name, rest, asked = rest[0], rest[1:], true
	case isHelp(name):
		_, err := fmt.Fprintln(stdout, usage())
		return err
	}
	c, err := findCommand(name)
	if err != nil {
		return err
	}
	if asked || wantsHelp(rest) {
		_, err := fmt.Fprintln(stdout, c.helpFor(rest))
		return err
	}
	return app.Explain(c.exec(ctx, rest, environ, stdout))
}

// noArguments returns an error if there are arguments, for commands that take none.
func noArguments(name string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Sprintf("latchkey %s takes no arguments, but there is %q. Settings are environment variables, see `latchkey config`.", name, args[0])}
}
