//go:build world

package world

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	// installTime bounds one installation: a mirror that hangs must not use up all of CI's time.
	installTime = 5 * time.Minute
	// startTime bounds the start of a program on two busy cores.
	startTime = 90 * time.Second
)

// TestMain prints the recorded cases, so that a log of CI shows the versions.
func TestMain(m *testing.M) {
	code := testenv.Main(m)
	_ = os.RemoveAll(builtIn)
	report.print(os.Stdout)
	os.Exit(code)
}

// report is the list of cases that were run.
var report records

type records struct {
	mu    sync.Mutex
	lines [][4]string
}

// record adds a case to the list that is printed at the end of the run: the package, its version, the case, and the
// result.
func record(pkg, version, name, seen string) {
	report.mu.Lock()
	defer report.mu.Unlock()
	report.lines = append(report.lines, [4]string{pkg, version, name, seen})
}

func (r *records) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.lines, func(a, b [4]string) int { return slices.Compare(a[:], b[:]) })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PACKAGE\tVERSION\tCASE\tSEEN")
	for _, line := range r.lines {
		_, _ = fmt.Fprintln(table, strings.Join(line[:], "\t"))
	}
	_ = table.Flush()
}

// command runs a program to its end and returns its standard output. If the program fails, it fails the test with
// everything that the program printed.
func command(t testing.TB, limit time.Duration, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	return commandIn(t, limit, "", stdin, name, args...)
}

// commandIn is command in a folder.
func commandIn(t testing.TB, limit time.Duration, dir string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

// installing makes installations take turns: apt has one lock, and npm's cache is no faster with two at once.
var installing sync.Mutex

// listing reads the lists of packages once for each run.
var listing sync.Once

// cacheFolder returns the folder where this user's installed packages are kept between runs. PostgreSQL does not run as
// root, so root's folder is one that others can read.
func cacheFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if os.Geteuid() == 0 {
		dir, err = "/var/cache", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "latchkey-world")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// npm returns a folder whose node_modules has these packages, each pinned as "jose@6.2.18". Only the test uses the
// folder: put scripts into it. The packages are kept for the next run. No script of a package is run.
func npm(t testing.TB, packages ...string) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		debian(t, "nodejs", "npm")
	}
	for _, pkg := range packages {
		if i := strings.LastIndex(pkg, "@"); i < 1 {
			t.Fatalf("npm package %q has no version", pkg)
		}
	}
	packages = slices.Sorted(slices.Values(packages))
	sum := sha256.Sum256([]byte(strings.Join(packages, "\n")))
	kept := keptFolder(t, "npm-"+hex.EncodeToString(sum[:8]), func(fresh string) {
		if err := os.WriteFile(filepath.Join(fresh, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--save-exact", "--loglevel=error"}
		commandIn(t, installTime, fresh, nil, "npm", append(args, packages...)...)
	})
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(kept, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keptFolder returns a folder of the cache. If it does not exist, fill fills it. Nobody ever sees it half full.
func keptFolder(t testing.TB, name string, fill func(fresh string)) string {
	t.Helper()
	kept := filepath.Join(cacheFolder(t), name)
	installing.Lock()
	defer installing.Unlock()
	if _, err := os.Stat(kept); err == nil {
		return kept
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(kept), "new-") //nolint:usetesting // renamed within its file system
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	fill(fresh)
	if err := os.Chmod(fresh, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, kept); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return kept
}

// nodeVersion is the long-term release that runs the packages: Debian 12 has Node.js 18, for which some are too new.
const nodeVersion = "22.23.5"

// node returns the program of Node.js in this version, from npm.
func node(t testing.TB) string {
	t.Helper()
	arch, ok := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if !ok {
		t.Fatalf("npm has no Node.js for %s", runtime.GOARCH)
	}
	name := "node-linux-" + arch
	return filepath.Join(npm(t, name+"@"+nodeVersion), "node_modules", name, "bin", "node")
}

// debian installs missing packages of Debian or Ubuntu, and returns the versions of all in the given order.
func debian(t testing.TB, packages ...string) []string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	versions := make([]string, len(packages))
	var missing []string
	for i, pkg := range packages {
		if versions[i] = debianVersion(t, pkg); versions[i] == "" {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return versions
	}
	apt := aptGet(t, "run 'apt-get install "+strings.Join(missing, " ")+"' as root first")
	refreshLists(t)
	// A package may start a daemon when it is installed, which the test does not want.
	policy := "/usr/sbin/policy-rc.d"
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) && os.Geteuid() == 0 {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err == nil {
			defer func() { _ = os.Remove(policy) }()
		}
	}
	command(t, installTime, nil, apt[0], slices.Concat(apt[1:], []string{"install", "-y", "--no-install-recommends"}, missing)...)
	for i, pkg := range packages {
		if versions[i] = debianVersion(t, pkg); versions[i] == "" {
			t.Fatalf("%s is not installed after apt-get install", pkg)
		}
	}
	return versions
}

// aptGet returns the command line that runs apt-get as root.
func aptGet(t testing.TB, instead string) []string {
	t.Helper()
	root := []string{"env", "DEBIAN_FRONTEND=noninteractive"}
	if os.Geteuid() != 0 {
		if exec.CommandContext(t.Context(), "sudo", "-n", "true").Run() != nil {
			t.Fatalf("not root: %s", instead)
		}
		root = slices.Concat([]string{"sudo", "-n"}, root)
	}
	return slices.Concat(root, []string{"apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"})
}

// refreshLists reads the lists of packages, once for each run: old ones name versions that mirrors no longer have.
func refreshLists(t testing.TB) {
	t.Helper()
	listing.Do(func() {
		apt := aptGet(t, "run 'apt-get update' as root first")
		command(t, installTime, nil, apt[0], append(apt[1:], "update")...)
	})
}

// debianVersion returns the version of a package, and "" if it is not installed.
func debianVersion(t testing.TB, pkg string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", pkg).Output()
	state, version, _ := strings.Cut(string(out), " ")
	if err != nil || state != "installed" {
		return ""
	}
	return version
}

// binary builds cmd/latchkey, once for each run.
func binary(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// builtIn is the folder of the binary, after it was built.
var builtIn string

var built = sync.OnceValues(func() (path string, err error) {
	if builtIn, err = os.MkdirTemp("", "latchkey-world-"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "latchkey")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../cmd/latchkey").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, os.Chmod(builtIn, 0o755)
})

// service is a running `latchkey dev`.
type service struct {
	grpc, http, ops string // host:port
	dir             string // LATCHKEY_DEV_DIR
}

// dev runs `latchkey dev` with these settings, on free ports unless the settings name some, until the test ends.
func dev(t testing.TB, settings ...string) *service {
	t.Helper()
	parent := t.TempDir()
	if err := os.Chmod(filepath.Dir(parent), 0o755); err != nil { // as root, PostgreSQL runs as another user
		t.Fatal(err)
	}
	s := &service{dir: filepath.Join(parent, "dev")}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary(t), "dev")
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LATCHKEY_DEV_DIR=" + s.dir,
		"LATCHKEY_GRPC_ADDR=127.0.0.1:0", "LATCHKEY_HTTP_ADDR=127.0.0.1:0", "LATCHKEY_OPS_ADDR=127.0.0.1:0",
	}, settings...)
	s.run(t, cmd)
	return s
}

// run starts cmd and reads its ready line.
func (s *service) run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log tail
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- rest
			}
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("latchkey ended with %v:\n%s", err, log.text())
			}
		case <-time.After(startTime):
			_ = cmd.Process.Kill()
			t.Errorf("latchkey does not end:\n%s", log.text())
		}
	})
	select {
	case line := <-ready:
		for part := range strings.FieldsSeq(line) {
			switch name, addr, _ := strings.Cut(part, "="); name {
			case "grpc":
				s.grpc = addr
			case "http":
				s.http = addr
			case "ops":
				s.ops = addr
			}
		}
	case err := <-ended:
		ended <- err
		t.Fatalf("latchkey ended (%v):\n%s", err, log.text())
	case <-time.After(startTime):
		t.Fatalf("latchkey is not ready:\n%s", log.text())
	}
}

// tail keeps the log of a program, for the message of a test that fails.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	if over := len(l.kept) - 1<<16; over > 0 {
		l.kept = l.kept[over:]
	}
	return len(p), nil
}

func (l *tail) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}

// freePort returns a port of 127.0.0.1 that is free now, for a setting that must be known before the start.
func freePort(t testing.TB) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return port
}
