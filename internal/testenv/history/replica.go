//go:build linux

package history

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// startTime is how long a replica may take to be ready on a busy machine.
const startTime = time.Minute

// clients are the gRPC clients of one replica.
type clients struct {
	conn     *grpc.ClientConn
	auth     latchkeyv1.AuthServiceClient
	sessions latchkeyv1.SessionServiceClient
	admin    latchkeyv1.AdminServiceClient
	accounts latchkeyv1.AccountServiceClient
}

// replica is a process of `latchkey serve`. It can be started again.
type replica struct {
	name    string
	program string
	environ []string

	clients atomic.Pointer[clients]
	// frozen and down are read by clients, since all would wait for this replica otherwise.
	frozen, down atomic.Bool

	mu      sync.Mutex
	process *process
}

// process is one run.
type process struct {
	cmd   *exec.Cmd
	ready chan string
	done  chan struct{}
	log   tailBuffer
}

// start returns when the replica serves. The replica ends with the test, however the test ends.
func (r *replica) start(ctx context.Context, t testing.TB) {
	t.Helper()
	p, err := launch(ctx, r.program, r.environ)
	if err != nil {
		t.Fatalf("start replica %s: %v", r.name, err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("replica %s said:\n%s", r.name, p.log.String())
		}
	})
	var addr string
	select {
	case addr = <-p.ready:
	case <-p.done:
		t.Fatalf("replica %s ended:\n%s", r.name, p.log.String())
	case <-time.After(startTime):
		t.Fatalf("replica %s was not ready within %s:\n%s", r.name, startTime, p.log.String())
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r.clients.Store(&clients{
		conn: conn, auth: latchkeyv1.NewAuthServiceClient(conn),
		sessions: latchkeyv1.NewSessionServiceClient(conn), admin: latchkeyv1.NewAdminServiceClient(conn),
		accounts: latchkeyv1.NewAccountServiceClient(conn),
	})
	r.mu.Lock()
	r.process = p
	r.mu.Unlock()
}

// launch starts a program that the kernel kills when this process dies. The kernel ties that to the thread that started
// the program, so the goroutine keeps its thread.
func launch(ctx context.Context, program string, environ []string) (*process, error) {
	p := &process{ready: make(chan string, 1), done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, "serve")
	p.cmd.Env = environ
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.read(stdout)
		_ = p.cmd.Wait() // killed
		close(p.done)
	}()
	return p, <-started
}

// read passes on the address of the ready line, and reads until the program ends.
func (p *process) read(stdout io.Reader) {
	address := regexp.MustCompile(`^ready grpc=(\S+)`)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if found := address.FindStringSubmatch(lines.Text()); found != nil {
			p.ready <- found[1]
		}
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // or it has ended
	<-p.done
}

// signal is for SIGSTOP and SIGCONT.
func (r *replica) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.process.cmd.Process.Signal(sig); err != nil {
		t.Errorf("signal %s to replica %s: %v", sig, r.name, err)
	}
}

// kill ends it like `kill -9`.
func (r *replica) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process.kill()
}

// stop ends it in good order.
func (r *replica) stop(t testing.TB) {
	t.Helper()
	r.signal(t, syscall.SIGTERM)
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.process.done:
	case <-time.After(startTime):
		t.Fatalf("replica %s did not stop within %s", r.name, startTime)
	}
}

// build builds the program, with other text in some of its files.
func build(t testing.TB, overlay string) string {
	t.Helper()
	const timeout = 10 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	program := t.TempDir() + "/latchkey"
	args := []string{"build", "-buildvcs=false", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(args, "github.com/latchkey-auth/latchkey/cmd/latchkey")
	output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput() //nolint:gosec // the arguments are ours
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return program
}

// tailBuffer keeps the end of the text that is written to it.
type tailBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *tailBuffer) Write(p []byte) (int, error) {
	const most = 32 << 10
	// There is no mail server, so each mail about a new password fails again and again.
	if bytes.Contains(p, []byte(`"msg":"mail: attempt failed`)) {
		return len(p), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	if over := b.text.Len() - most; over > 0 {
		b.text.Next(over)
	}
	return len(p), nil
}

// String returns the text that was kept.
func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
