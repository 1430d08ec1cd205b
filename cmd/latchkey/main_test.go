package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// asLatchkey makes this test binary run as latchkey: processes can be killed in ways that a function cannot.
const asLatchkey = "TEST_BINARY_IS_LATCHKEY"

// asGoTool makes it run itself as latchkey, as `go run` runs a program.
const asGoTool = "TEST_BINARY_IS_GO"

// patience is the longest time that anything may take on a busy machine.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(asGoTool) != "" {
		playGoTool()
		return
	}
	if os.Getenv(asLatchkey) != "" {
		main()
		return
	}
	os.Exit(testenv.Main(m))
}

// playGoTool has threads as the go tool does: for its child, the end of each thread is the death of a parent.
func playGoTool() {
	for range 20 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), asGoTool+"=")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(exitFailed)
	}
}

// process is a running latchkey.
type process struct {
	cmd   *exec.Cmd
	ready chan map[string]string // the ready line's parts
	done  chan struct{}
	err   error

	mu             sync.Mutex
	stdout, stderr bytes.Buffer
}

func start(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, program, environ, args...)
}

func startProgram(t *testing.T, program string, environ []string, args ...string) *process {
	t.Helper()
	p := &process{ready: make(chan map[string]string, 1), done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	p.cmd.Env = append(slices.Clone(environ), asLatchkey+"=1", "HOME="+t.TempDir(), "PATH="+os.Getenv("PATH"))
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var copied sync.WaitGroup
	copied.Go(func() { p.copy(stdout, &p.stdout) })
	copied.Go(func() { p.copy(stderr, &p.stderr) })
	go func() {
		copied.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

func (p *process) copy(from io.Reader, to *bytes.Buffer) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	parts := regexp.MustCompile(`(grpc|http|ops)=(\S+)`)
	for lines.Scan() {
		p.mu.Lock()
		to.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if strings.HasPrefix(lines.Text(), "ready ") {
			addrs := map[string]string{}
			for _, m := range parts.FindAllStringSubmatch(lines.Text(), -1) {
				addrs[m[1]] = m[2]
			}
			p.ready <- addrs
		}
	}
}

func (p *process) text(of *bytes.Buffer) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return of.String()
}

// greeting returns the complete text that dev has written to stderr. The ready line on stdout may be read before it.
func (p *process) greeting(t *testing.T) string {
	t.Helper()
	whole := regexp.MustCompile(`(?s)Check a token as another service does[^\n]*\n[^\n]+\n`)
	testenv.Eventually(t, patience, "dev says how to begin", func() bool { return whole.MatchString(p.text(&p.stderr)) })
	return p.text(&p.stderr)
}

// addrs waits for the ready line.
func (p *process) addrs(t *testing.T) map[string]string {
	t.Helper()
	select {
	case addrs := <-p.ready:
		if len(addrs) != 3 {
			t.Fatalf("ready line: %v", addrs)
		}
		return addrs
	case <-p.done:
		t.Fatalf("ended before it was ready: %v\n%s", p.err, p.text(&p.stderr))
	case <-time.After(patience):
		t.Fatalf("not ready:\n%s", p.text(&p.stderr))
	}
	return nil
}

// exit waits for the end and returns the exit code.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("still running:\n%s", p.text(&p.stderr))
	}
	var failed *exec.ExitError
	if p.err != nil && !errors.As(p.err, &failed) {
		t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// serveSettings returns the settings that serve requires, with stores that only the test uses.
func serveSettings(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"LATCHKEY_DATABASE_URL": testenv.EmptyDatabase(t),
		"LATCHKEY_REDIS_URL":    testenv.Redis(t),
		"LATCHKEY_SECRET_KEY":   "row0rScHLQXkSiKJHeL5tPQD0qdewcWxncClZlZjpUE=",
		"LATCHKEY_ISSUER":       "https://auth.example.com",
		"LATCHKEY_SMTP_URL":     "smtp://127.0.0.1:1025?starttls=never",
		"LATCHKEY_RESET_URL":    "https://app.example.com/reset",
		"LATCHKEY_GRPC_ADDR":    "127.0.0.1:0",
		"LATCHKEY_HTTP_ADDR":    "127.0.0.1:0",
		"LATCHKEY_OPS_ADDR":     "127.0.0.1:0",
	}
}

func pairs(settings map[string]string) []string {
	var list []string
	for name, value := range settings {
		list = append(list, name+"="+value)
	}
	return list
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{nil, exitUsage, ""},
		{[]string{"help"}, exitDone, "usage: latchkey COMMAND"},
		{[]string{"--help"}, exitDone, "healthcheck"},
		{[]string{"version"}, exitDone, "latchkey "},
		{[]string{"sevre"}, exitUsage, ""},
		{[]string{"serve", "--port=1"}, exitUsage, ""},
		{[]string{"migrate"}, exitUsage, ""},
		{[]string{"migrate", "sideways"}, exitUsage, ""},
		{[]string{"migrate", "up"}, exitUsage, ""}, // no database is set
		{[]string{"keys"}, exitUsage, ""},
		{[]string{"keys", "lost"}, exitUsage, ""},
		{[]string{"keys", "list", "--yaml"}, exitUsage, ""},
		{[]string{"keys", "rotate", "--now", "x"}, exitUsage, ""},
		{[]string{"keys", "revoke"}, exitUsage, ""},
		{[]string{"keys", "revoke", "a", "b"}, exitUsage, ""},
		{[]string{"keys", "list"}, exitUsage, ""}, // no database is set
		{[]string{"admin"}, exitUsage, ""},
		{[]string{"admin", "help"}, exitDone, "usage: latchkey admin"},
		{[]string{"admin", "user", "list", "--help"}, exitDone, "revoke-all-sessions --yes"},
		{[]string{"config"}, exitDone, "LATCHKEY_ARGON2_MEMORY_KIB"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), test.args, nil, &out)
		if exitCode(err) != test.code || !strings.Contains(out.String(), test.out) {
			t.Errorf("%v: exit %d (%v), printed %q", test.args, exitCode(err), err, out.String())
		}
	}
	if err := run(t.Context(), []string{"migrate", "sideways"}, nil, io.Discard); err == nil || !strings.Contains(err.Error(), `there is no "sideways"`) {
		t.Errorf("a word that is not known, without settings: %v", err)
	}
}

// TestServeNamesWhatIsMissing runs the program, since scripts and people see its exit code and output.
func TestServeNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	complete := serveSettings(t)
	for _, name := range []string{
		"LATCHKEY_DATABASE_URL", "LATCHKEY_REDIS_URL", "LATCHKEY_SECRET_KEY", "LATCHKEY_ISSUER", "LATCHKEY_SMTP_URL",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{}
			for other, value := range complete {
				if other != name {
					settings[other] = value
				}
			}
			p := start(t, pairs(settings), "serve")
			if code := p.exit(t); code != exitUsage {
				t.Errorf("exit %d", code)
			}
			text := p.text(&p.stderr)
			if !strings.HasPrefix(text, name+" is not set: it must be ") || strings.Count(text, "\n") != 1 || p.text(&p.stdout) != "" {
				t.Errorf("printed %q", text)
			}
		})
	}
}

// TestServeRefusesWhatLeavesWouldRefuse has values that only the packages that use them can check.
func TestServeRefusesWhatLeavesWouldRefuse(t *testing.T) {
	t.Parallel()
	complete := serveSettings(t)
	for name, value := range map[string]string{
		"LATCHKEY_DATABASE_URL":      "postgres://u:hunter2secret@h:port/db",
		"LATCHKEY_SMTP_URL":          "http://u:hunter2secret@h",
		"LATCHKEY_RESET_URL":         "http://app.example.com/reset",
		"LATCHKEY_MAIL_FROM":         "no address",
		"LATCHKEY_TLS_CERT_FILE":     "/no/such/file",
		"LATCHKEY_ARGON2_MEMORY_KIB": "262144",
		// Somebody set the key itself instead of its hash.
		"LATCHKEY_ADMIN_KEY_SHA256":   "hunter2secret",
		"LATCHKEY_SERVICE_KEY_SHA256": "hunter2secret",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := maps.Clone(complete)
			settings[name] = value
			if name == "LATCHKEY_TLS_CERT_FILE" {
				settings["LATCHKEY_TLS_KEY_FILE"] = value
			}
			if name == "LATCHKEY_ARGON2_MEMORY_KIB" {
				settings["LATCHKEY_ARGON2_TIME"] = "32"
			}
			err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
			if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), name+" ") ||
				strings.Contains(err.Error(), "hunter2secret") || !strings.Contains(err.Error(), "such as ") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAllThatIsWrongIsToldAtOnce: settings that are missing, malformed, out of bounds, too weak or unreadable, and
// those that only the packages that use them can check, are reported at once, one line for each. A setting that cannot
// be read causes no error about another one.
func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"LATCHKEY_DATABASE_URL":                 "postgres://u:hunter2secret@h:port/db",
		"LATCHKEY_SECRET_KEY":                   "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"LATCHKEY_ISSUER":                       "auth.example.com",
		"LATCHKEY_SMTP_URL":                     "http://u:hunter2secret@h",
		"LATCHKEY_RESET_URL":                    "http://app.example.com/reset",
		"LATCHKEY_MAIL_FROM":                    "no address",
		"LATCHKEY_GRPC_ADDR":                    "50051",
		"LATCHKEY_SESSION_MAX_TTL":              "a month",
		"LATCHKEY_ARGON2_TIME":                  "two",
		"LATCHKEY_TLS_CERT_FILE":                "/no/such/file",
		"LATCHKEY_TLS_KEY_FILE":                 "/no/such/file",
		"LATCHKEY_ADMIN_KEY_SHA256":             "hunter2secret",
		"LATCHKEY_LEGACY_ENABLED":               "true",
		"LATCHKEY_LEGACY_ACCEPT_UNTIL":          "2100-01-01T00:00:00Z",
		"LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE": "/no/such/file",
		// LATCHKEY_REDIS_URL is missing.
	}
	err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	if exitCode(err) != exitUsage {
		t.Fatalf("exit %d: %v", exitCode(err), err)
	}
	var named []string
	for line := range strings.Lines(err.Error()) {
		named = append(named, strings.Fields(line)[0])
		if !strings.Contains(line, "such as ") || strings.Contains(line, "hunter2") {
			t.Errorf("%q", line)
		}
	}
	want := []string{
		"LATCHKEY_ADMIN_KEY_SHA256", "LATCHKEY_ARGON2_TIME", "LATCHKEY_DATABASE_URL", "LATCHKEY_GRPC_ADDR", "LATCHKEY_ISSUER",
		"LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE", "LATCHKEY_MAIL_FROM", "LATCHKEY_REDIS_URL", "LATCHKEY_RESET_URL", "LATCHKEY_SECRET_KEY",
		"LATCHKEY_SESSION_MAX_TTL", "LATCHKEY_SMTP_URL", "LATCHKEY_TLS_CERT_FILE",
	}
	if !slices.Equal(named, want) {
		t.Errorf("named:\n%s\nwant:\n%s", strings.Join(named, "\n"), strings.Join(want, "\n"))
	}
}

// TestAllTakenPortsAreTold: all are in one error, so that the next start does not fail on another one.
func TestAllTakenPortsAreTold(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	settings := serveSettings(t)
	names := []string{"LATCHKEY_GRPC_ADDR", "LATCHKEY_HTTP_ADDR", "LATCHKEY_OPS_ADDR"}
	for _, name := range names {
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // the test's own
		settings[name] = l.Addr().String()
	}
	err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	for _, name := range names {
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
