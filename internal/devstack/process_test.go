//go:build unix

package devstack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func shell(t *testing.T, script string) (*process, *serverLog) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := command{path: "/bin/sh", args: []string{"-c", script}, dir: "/", onDeath: syscall.SIGKILL, log: log}.
		start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		signalProcess(p.pid, syscall.SIGKILL)
		<-p.done
		if err := log.close(); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

// TestServerSurvivesThreads ends threads of the runtime all the time. The kernel signals a child when the thread that
// forked it ends, and not when the process ends.
func TestServerSurvivesThreads(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	var ending sync.WaitGroup
	for range 4 {
		ending.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond): // leaves the processors to the other tests
				}
				var one sync.WaitGroup
				one.Go(func() {
					runtime.LockOSThread() // if a goroutine ends while its thread is locked, the thread ends too
				})
				one.Wait()
			}
		})
	}
	var servers []*process
	for range 40 {
		p, _ := shell(t, "exec sleep 60")
		servers = append(servers, p)
	}
	time.Sleep(50 * time.Millisecond) // some hundred threads
	close(stop)
	ending.Wait()
	for _, p := range servers {
		select {
		case <-p.done:
			t.Fatalf("a server ended with a thread of its parent: %v", p.waitErr)
		default:
		}
	}
}

// TestServerHasItsOwnGroup keeps Ctrl-C, which the terminal sends to a group, from ending servers before their user.
func TestServerHasItsOwnGroup(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, "exec sleep 60")
	if group, err := syscall.Getpgid(p.pid); err != nil || group != p.pid {
		t.Errorf("process %d is in group %d, %v", p.pid, group, err)
	}
}

func TestStopEscalates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		end    string // how the process ends
		fails  bool
	}{
		"obeys the first":  {"trap 'exit 3' INT; echo up; while :; do sleep 0.01; done", "exit status 3", false},
		"obeys the second": {"trap '' INT; trap 'exit 4' QUIT; echo up; while :; do sleep 0.01; done", "exit status 4", false},
		"obeys none":       {"trap '' INT QUIT; echo up; while :; do sleep 0.01; done", "signal: killed", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, log := shell(t, test.script)
			eventually(t, "the script runs", func() bool { return strings.Contains(log.tail(), "up") })
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if name == "obeys the first" {
				ctx = t.Context()
			}
			patience := 10 * time.Second
			signals := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
			if test.fails {
				signals = signals[:1] // the test would wait for the second in full
			}
			if err := p.stop(ctx, patience, signals...); (err != nil) != test.fails {
				t.Errorf("stop gave %v", err)
			}
			if p.waitErr == nil || p.waitErr.Error() != test.end {
				t.Errorf("ended with %v, want %s", p.waitErr, test.end)
			}
		})
	}
}

func TestAwaitSaysWhy(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, "for i in $(seq 1 40); do echo line $i; done; exit 7")
	err := p.await(t.Context(), func() bool { return false })
	if err == nil {
		t.Fatal("a server that ended counts as started")
	}
	for _, part := range []string{"sh did not start", "exit status 7", "line 40", "line 26\n"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
	for _, part := range []string{"earlier run", "line 25\n"} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("%q is in: %v", part, err)
		}
	}

	p, _ = shell(t, "echo waiting; exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = p.await(ctx, func() bool { return false })
	if strings.Contains(err.Error(), "earlier run") {
		t.Errorf("the log of an earlier run is in: %v", err)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("a start that takes too long gave %v", err)
	}
}

func TestLogStartsAnewWhenLarge(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.close() }()
	if log.offset != 0 {
		t.Errorf("the log kept %d bytes", log.offset)
	}
}

func TestChildSeesNoEnvironment(t *testing.T) {
	t.Setenv("PGPORT", "1")
	p, log := shell(t, "env")
	<-p.done
	if tail := log.tail(); strings.Contains(tail, "PGPORT") || !strings.Contains(tail, "TZ=UTC") {
		t.Errorf("the server's environment is %s", tail)
	}
}
