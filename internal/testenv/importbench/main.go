// Command importbench measures `latchkey users import` with PostgreSQL on the same machine, which waits for the disk:
//
//	go tool -modfile=tools/go.mod task bench:import
//
// It writes a file of a million accounts, half of them with bcrypt and half with Argon2id hashes. It imports the file
// into an empty database, then again, then into another one with an interruption half way. Every import is a separate
// process. The kernel reports its greatest resident memory.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// hashes is how many there are of each kind: the check of one costs the same however often it is repeated.
const hashes = 8

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "importbench:", err)
		os.Exit(1)
	}
}

// bench has the data that the steps share.
type bench struct {
	dir, latchkey, file string
	users               int64
	server              *devstack.Postgres
	out                 *tabwriter.Writer
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux: the kernel's figure of the most memory is in KiB there")
	}
	b := &bench{out: tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	flags := flag.NewFlagSet("importbench", flag.ContinueOnError)
	flags.Int64Var(&b.users, "users", 1_000_000, "accounts in the file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := devstack.DieWithParent(); err != nil {
		return err
	}
	scratch, err := devstack.NewScratch(os.TempDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Remove()) }()
	b.dir = scratch.Dir
	b.latchkey, b.file = filepath.Join(b.dir, "latchkey"), filepath.Join(b.dir, "users.jsonl")
	if err := b.prepare(ctx); err != nil {
		return err
	}
	b.server, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{DataDir: filepath.Join(b.dir, "data")})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, b.server.Stop(stopping))
	}()
	return errors.Join(b.measure(ctx), b.out.Flush())
}

// prepare builds the program as it is shipped, and writes the file.
func (b *bench) prepare(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "run", "./internal/release", "-version", "bench", "-o", b.latchkey) //nolint:gosec // G204: fixed words and a path of ours
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build latchkey: %w\n%s", err, text)
	}
	list, err := makeHashes(ctx)
	if err != nil {
		return err
	}
	file, err := os.Create(b.file)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	for i := range b.users {
		_, err := fmt.Fprintf(buffered, `{"id":"%s","email":"First.Last%d@mail%d.example.com","password_hash":"%s","first_name":"First","last_name":"Last%d","created_at":"2023-%02d-%02dT03:04:05Z","email_verified":true}`+"\n",
			uuid.New(), (i*7_919)%b.users, i%100, list[i%int64(len(list))], i, 1+i%12, 1+i%28)
		if err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return errors.Join(buffered.Flush(), file.Close())
}

// makeHashes makes real hashes, as cheap as possible.
func makeHashes(ctx context.Context) ([]string, error) {
	hasher, err := password.New(password.Config{ //nolint:contextcheck // it measures the machine, for some milliseconds
		Params: password.Params{MemoryKiB: 64, Time: 1, Threads: 1}, Slots: 1, DecoyKey: make([]byte, 32),
	})
	if err != nil {
		return nil, err
	}
	var list []string
	for i := range hashes {
		typed := fmt.Sprint("password of user ", i)
		argon, err := hasher.Hash(ctx, password.Claim{}, typed)
		if err != nil {
			return nil, err
		}
		old, err := bcrypt.GenerateFromPassword([]byte(typed), bcrypt.MinCost)
		if err != nil {
			return nil, err
		}
		list = append(list, argon, string(old))
	}
	return list, nil
}

func (b *bench) measure(ctx context.Context) error {
	fmt.Fprintln(b.out, "\tread\tcreated\talready there\tseconds\tusers/s\tpeak MiB\t") //nolint:errcheck // Flush tells
	first, err := b.database(ctx, "first")
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		args []string
		stop float64
	}{
		{"dry run", []string{"--dry-run"}, 0}, {"import", nil, 0}, {"the same again", nil, 0},
	} {
		if err := b.step(ctx, step.name, first, 0, step.args...); err != nil {
			return err
		}
	}
	second, err := b.database(ctx, "second")
	if err != nil {
		return err
	}
	if err := b.step(ctx, "interrupted", second, b.users/2); err != nil {
		return err
	}
	if err := b.step(ctx, "and resumed", second, 0); err != nil {
		return err
	}
	return b.compare(ctx, first, second)
}

// database makes a migrated database.
func (b *bench) database(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to be said
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	url := b.server.URL(name)
	migrate := exec.CommandContext(ctx, b.latchkey, "migrate", "up") //nolint:gosec // G204: what was just built
	migrate.Env = []string{"LATCHKEY_DATABASE_URL=" + url}
	if text, err := migrate.CombinedOutput(); err != nil {
		return "", fmt.Errorf("migrate: %w\n%s", err, text)
	}
	return url, nil
}

// step runs one import. It interrupts it when the database has interruptAt accounts (0: never).
func (b *bench) step(ctx context.Context, name, url string, interruptAt int64, args ...string) error {
	cmd := exec.CommandContext(ctx, b.latchkey, append([]string{"users", "import", "--json", b.file}, args...)...) //nolint:gosec // G204
	cmd.Env = []string{"LATCHKEY_DATABASE_URL=" + url}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	interrupted := false
	if interruptAt > 0 {
		if err := b.interrupt(ctx, cmd, url, interruptAt); err != nil {
			return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		interrupted = true
	}
	if err := cmd.Wait(); err != nil && !interrupted {
		return fmt.Errorf("%s: %w\n%s", name, err, stderr.String())
	}
	var s struct {
		Read, Created, Existing, Refused int64
		Seconds                          float64
		PerSecond                        int64 `json:"per_second"`
		Whole                            bool
	}
	if err := json.NewDecoder(strings.NewReader(stdout.String())).Decode(&s); err != nil {
		return fmt.Errorf("%s: %w\n%s%s", name, err, stdout.String(), stderr.String())
	}
	if s.Refused > 0 || s.Whole == interrupted {
		return fmt.Errorf("%s: %+v\n%s", name, s, stderr.String())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the kernel does not say what the process used")
	}
	_, err := fmt.Fprintf(b.out, "%s\t%d\t%d\t%d\t%.1f\t%d\t%d\t\n", name, s.Read, s.Created, s.Existing, s.Seconds, s.PerSecond, usage.Maxrss>>10)
	return err
}

// interrupt sends Ctrl-C when the database has so many accounts.
func (b *bench) interrupt(ctx context.Context, cmd *exec.Cmd, url string, at int64) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to be said
	for {
		var n int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM users").Scan(&n); err != nil {
			return err
		}
		if n >= at {
			return cmd.Process.Signal(os.Interrupt)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compare checks that an interruption left no trace.
func (b *bench) compare(ctx context.Context, urls ...string) error {
	var sums [2]string
	for i, url := range urls {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		err = conn.QueryRow(ctx, `SELECT count(*) || ' ' || sum(hashtextextended(
			concat_ws('|', id, email, email_lookup, password_hash, first_name, last_name, created_at, is_active, is_verified), 0)) FROM users`).Scan(&sums[i])
		if err := errors.Join(err, conn.Close(ctx)); err != nil {
			return err
		}
	}
	if sums[0] != sums[1] {
		return fmt.Errorf("the interrupted import ended with other accounts: %s and %s", sums[0], sums[1])
	}
	return nil
}
