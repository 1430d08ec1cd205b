package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asHelper, as the first argument, makes a copy of the test binary run a helper instead of tests.
const asHelper = "as-helper"

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != asHelper {
		os.Exit(m.Run())
	}
	if err := helper(os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helper runs in a separate process. It prints a first line to its standard output, then it waits to be killed.
func helper(mode string, args []string) error {
	switch mode {
	case "lock":
		if _, err := LockDir(args[0]); err != nil {
			return err
		}
		say(os.Getpid())
	case "scratch":
		scratch, err := NewScratch(args[0])
		if err != nil {
			return err
		}
		say(scratch.Dir)
	case "serve":
		return serveUntilKilled(args[0])
	case "go":
		return playGoTool(args[0])
	case "child":
		return childOfGo(DieWithParent)
	case "orphan":
		return childOfGo(dieWithTheDead)
	default:
		return fmt.Errorf("unknown mode %q", mode)
	}
	select {}
}

// serveUntilKilled starts both servers on data below dir, writes something to each and prints the numbers of the
// processes.
func serveUntilKilled(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := StartPostgres(ctx, PostgresConfig{DataDir: filepath.Join(dir, "pg"), Durable: true})
	if err != nil {
		return err
	}
	if err := countUp(ctx, pg.URL("postgres"), io.Discard); err != nil {
		return err
	}
	rd, err := StartRedis(ctx, RedisConfig{DataDir: filepath.Join(dir, "redis"), AppendOnly: true})
	if errors.Is(err, ErrNoRedis) {
		say(pg.pid)
		select {}
	}
	if err != nil {
		return err
	}
	_, redisPID := holders(filepath.Join(dir, "redis.lock"))
	say(pg.pid, redisPID, rd.URL())
	select {}
}

// playGoTool starts the child with a program named go as its parent.
func playGoTool(program string) error {
	cmd := exec.CommandContext(context.Background(), program, asHelper, "child")
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}

func childOfGo(dieWithParent func() error) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	if err := dieWithParent(); err != nil {
		return err
	}
	select {
	case <-ended:
	case <-time.After(50 * time.Millisecond): // the signal that a process sends itself comes at once
		say(os.Getpid())
		<-ended
	}
	say("terminated")
	return nil
}

// say prints a line for the test that started this helper. If that test has ended, the line is lost; the test has
// killed its helpers then.
func say(words ...any) {
	_, _ = fmt.Fprintln(os.Stdout, words...)
}

// child is a running helper.
type child struct {
	cmd    *exec.Cmd
	output *bufio.Reader
}

// startHelper runs a copy of this program, and returns it with the words of the first line that it printed.
func startHelper(t *testing.T, cmd *exec.Cmd, mode string, args ...string) (*child, []string) {
	t.Helper()
	cmd.Args = append([]string{cmd.Path, asHelper, mode}, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, output: bufio.NewReader(stdout)}
	t.Cleanup(c.kill)
	line, err := c.output.ReadString('\n')
	if err != nil {
		t.Fatalf("helper %s said nothing: %v", mode, err)
	}
	return c, strings.Fields(line)
}

// kill sends SIGKILL, so the helper has no chance to clean up.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func selfCommand(t *testing.T) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(context.WithoutCancel(t.Context()), program)
}

// eventually waits for an effect of other processes.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for !cond() {
		select {
		case <-timeout.C:
			t.Fatalf("did not come true: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// gone reports whether a process has ended, also if its parent has not collected it yet.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	if !alive(pid) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && !alive(pid)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

// publicTempDir returns a temporary directory that the servers of a root process can enter. They cannot enter
// t.TempDir.
func publicTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devstack-test-*") //nolint:usetesting // t.TempDir makes a parent with mode 0700
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func number(t *testing.T, word string) int {
	t.Helper()
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
