// Command release builds latchkey as it is shipped: the image, the benchmarks and the check of its size use it, so that
// all of them mean the same file.
//
//	go run ./internal/release -o FILE [-version TEXT] [-most BYTES]
//	go run ./internal/release -test PACKAGE
//
// The second form runs the tests of a package with what the build changes in Go's library.
//
// A plain `go build ./cmd/latchkey` makes a larger binary that does the same; docs/decisions has the reasons
// (2026-11-30-memory.md).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	output := flags.String("o", "", "the `file` to write")
	version := flags.String("version", "dev", "what `latchkey version` says")
	tested := flags.String("test", "", "the `package` to test")
	most := flags.Int64("most", 0, "fail if the file has more `bytes`; 0: any size")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if (*output == "") == (*tested == "") || flags.NArg() > 0 {
		return errors.New("needs -o FILE or -test PACKAGE, and takes no arguments")
	}
	dir, err := os.MkdirTemp("", "latchkey-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := goRoot(ctx)
	if err != nil {
		return err
	}
	overlay, err := writeOverlay(root, dir)
	if err != nil {
		return err
	}
	if *tested != "" {
		return command(ctx, "test", "-overlay", overlay, *tested)
	}
	if err := build(ctx, *output, *version, overlay); err != nil {
		return err
	}
	info, err := os.Stat(*output)
	switch {
	case err != nil:
		return err
	case *most > 0 && info.Size() > *most:
		return fmt.Errorf("the binary has %d bytes, and may have %d: see docs/decisions/2026-11-30-memory.md", info.Size(), *most)
	}
	return nil
}

// build builds with these flags:
//
//   - grpcnotrace leaves out golang.org/x/net/trace, which gRPC imports and nothing here uses.
//   - -s -w leave out what only debuggers read. Stack traces do not need it.
func build(ctx context.Context, output, version, overlay string) error {
	return command(ctx, "build", "-trimpath", "-buildvcs=false", "-tags", "grpcnotrace",
		"-ldflags", "-s -w -X main.version="+version, "-overlay", overlay,
		"-o", output, "github.com/latchkey-auth/latchkey/cmd/latchkey")
}

// command runs go without cgo.
func command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // G204: runs a build with a name and a version of its caller
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	return nil
}

// goRoot returns the folder of the Go that builds, which go.mod may choose.
func goRoot(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return filepath.Clean(string(text[:len(text)-1])), nil
}
