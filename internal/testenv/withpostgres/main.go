// Command withpostgres runs a command beside an empty PostgreSQL that ends with the command, for checks that need a
// database but no tests:
//
//	go run ./internal/testenv/withpostgres COMMAND [ARGUMENT]...
//
// The command finds the server in LATCHKEY_DATABASE_URL and DATABASE_URL. The exit code is that of the command; 2 means
// that no command was named, 1 may also mean that there is no server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// patience is how long the command may take to end after the signal, and the server after that.
const patience = 10 * time.Second

var errUsage = errors.New("name a command to run: withpostgres COMMAND [ARGUMENT]")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		os.Exit(exit.ExitCode()) // the command has said why
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 {
		return errUsage
	}
	scratch, err := devstack.NewScratch(os.TempDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Remove()) }()

	server, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{DataDir: filepath.Join(scratch.Dir, "data")})
	if err != nil {
		return err
	}
	defer func() {
		// An interrupt ends ctx, but the server must be stopped nevertheless.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, server.Stop(ctx))
	}()

	url := server.URL("postgres")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // running what its caller names is its purpose
	cmd.Env = append(cmd.Environ(), "LATCHKEY_DATABASE_URL="+url, "DATABASE_URL="+url)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd.Run()
}
