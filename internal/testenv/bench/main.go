// Command bench measures a released Latchkey beside the least that could do the same work, in one run on one machine:
//
//   - ValidateToken beside a bare grpc-go server that answers the same message without reading the request,
//   - ValidateToken over HTTP/1.1 by Connect, with protobuf and with JSON, beside a bare net/http server that decodes and
//     encodes messages of the same size with encoding/json,
//   - Login beside the pure password hash, and that beside golang.org/x/crypto's,
//   - RefreshToken,
//
// then the answers to thousands of logins at once, authverify in a service's own process, a replica that nobody calls,
// and last, on two replicas, how long a Logout takes to be final, to be seen by authverify in another process, and to
// reach thousands of watchers.
//
// Rounds alternate between what is compared, so that noise affects all, and each figure is the median over the rounds.
//
//	go run ./internal/testenv/bench [-json FILE] [-svg FILE] [-beside BINARY]
//
// It prints a table to stdout. The exit code is 0 if everything was measured, 1 if something failed and 2 for a wrong
// command line. No figure makes it fail.
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
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// options are the command line.
type options struct {
	jsonFile    string
	svgFile     string
	latchkey    string // a built binary; "" = build one
	beside      string // another binary to measure in the same rounds
	cpuProfiles string
	log         string // "" = removed at the end
	rounds      int
	window      time.Duration
	idle        time.Duration // how long the stores are watched while nobody calls
	skipLogin   bool
	watchers    int
	crowd       int

	skipRevocations bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(*usageError)):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profileOf returns the file for the processor profile of this part, or "".
func (o options) profileOf(part string) string {
	if o.cpuProfiles == "" || part == "" {
		return ""
	}
	return filepath.Join(o.cpuProfiles, part+".pprof")
}

// usageError is a wrong command line.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux: processor time and memory are read from /proc")
	}
	if len(args) > 0 && args[0] == echoCommand {
		return serveEcho(ctx, args[1:], stdout)
	}
	if len(args) > 0 && args[0] == httpEchoCommand {
		return serveHTTPEcho(ctx, args[1:], stdout)
	}
	if len(args) > 0 && args[0] == crowdCommand {
		return serveCrowd(ctx, args[1:], stdout)
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if err := devstack.DieWithParent(); err != nil {
		return err
	}
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	if o.jsonFile != "" {
		if err := writeJSON(o.jsonFile, r); err != nil {
			return err
		}
	}
	if o.svgFile != "" {
		if err := os.WriteFile(o.svgFile, r.chart(), 0o644); err != nil { //nolint:gosec // G306: a picture for a README
			return err
		}
	}
	return r.print(stdout)
}

func parse(args []string) (options, error) {
	o := options{idle: 5 * time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.jsonFile, "json", "", "also write everything that was measured to this `file`")
	flags.StringVar(&o.svgFile, "svg", "", "also draw the main figures as a chart in this `file`")
	flags.StringVar(&o.latchkey, "latchkey", "", "measure this `binary` instead of building one")
	flags.StringVar(&o.beside, "beside", "", "measure this `binary` of Latchkey too, such as one built before a change")
	flags.StringVar(&o.cpuProfiles, "cpuprofiles", "", "write processor profiles of Latchkey to files in this `folder`; it slows the rounds down")
	flags.StringVar(&o.log, "log", "", "keep Latchkey's log in this `file`")
	flags.IntVar(&o.rounds, "rounds", 5, "alternating rounds")
	flags.DurationVar(&o.window, "window", 3*time.Second, "how long each is measured in each round")
	flags.BoolVar(&o.skipLogin, "skip-login", false, "measure neither Login nor RefreshToken, nor an overload")
	flags.IntVar(&o.watchers, "watchers", 10_000, "streams of WatchRevocations that are opened at once, up to 12,800")
	flags.IntVar(&o.crowd, "crowd", 2000, "logins at once, up to 4,000")
	flags.BoolVar(&o.skipRevocations, "skip-revocations", false, "do not measure how soon revocations are final and seen")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, &usageError{err}
	case flags.NArg() > 0:
		return o, &usageError{fmt.Errorf("takes no arguments, but there is %q", flags.Arg(0))}
	case o.watchers < 1 || o.watchers > 128*watcherConnections:
		return o, &usageError{errors.New("-watchers must be from 1 to 12800")}
	case o.crowd < 1 || o.crowd > 125*crowdConnections:
		return o, &usageError{errors.New("-crowd must be from 1 to 4000")}
	case o.rounds < 1 || o.window < 100*time.Millisecond:
		return o, &usageError{errors.New("-rounds must be 1 or more and -window 100ms or more")}
	}
	return o, nil
}

func writeJSON(name string, r *report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.WriteFile(name, append(text, '\n'), 0o600)
}
