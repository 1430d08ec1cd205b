package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// quickEnd is how long a server may take to obey a signal that ends it at once. PostgreSQL kills its own
// children 5 s after the start of an immediate shutdown.
const quickEnd = 6 * time.Second

// command describes a program to run.
type command struct {
	path string
	args []string
	dir  string
	acct account
	// onDeath is the signal that the kernel sends to the program if this process ends first (Linux).
	onDeath syscall.Signal
	// lock, if not nil, is inherited: it is held as long as the program or a child of it lives.
	lock *fileLock
	log  *serverLog
}

// prepare builds the exec.Cmd. Its context never ends: callers stop a program with signals, in the order that it needs.
func (c command) prepare(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.path, c.args...) //nolint:gosec // the server that was asked for
	cmd.Dir = c.dir
	// The program gets none of the caller's environment: PGPORT, PGDATA and the locale would change how a
	// server behaves.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = processAttributes(c.acct, c.onDeath)
	if c.log != nil {
		cmd.Stdout, cmd.Stderr = c.log.file, c.log.file
	}
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock.file}
	}
	return cmd
}

// process is a running server.
type process struct {
	name     string
	pid      int
	log      *serverLog
	done     chan struct{}
	waitErr  error // what Wait returned; valid after done
	stopping atomic.Bool
}

// start runs a program. The goroutine that forks it keeps its thread until the program ends: the kernel sends
// the signal about a parent's death when the thread that forked ends, and Go ends idle threads.
func (c command) start(ctx context.Context) (*process, error) {
	p := &process{name: filepath.Base(c.path), log: c.log, done: make(chan struct{})}
	cmd := c.prepare(ctx)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.waitErr = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, c.acct.explain(c.acct.explain(err, c.path), c.dir))
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// await calls ready until it returns true. It returns an error if the process or ctx ends. It does not stop
// the process.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !ready() {
		select {
		case <-p.done:
			return p.failure("did not start")
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready in time: %w%s", p.name, context.Cause(ctx), p.log.tail())
		case <-ticker.C:
		}
	}
	return nil
}

// err returns nil while the process runs, and if it ended because it was asked to.
func (p *process) err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.stopping.Load() {
		return nil
	}
	return p.failure("stopped by itself")
}

func (p *process) failure(what string) error {
	cause := p.waitErr
	if cause == nil {
		cause = errors.New("exit status 0")
	}
	return fmt.Errorf("%s %s: %w%s", p.name, what, cause, p.log.tail())
}

// stop sends the signals in turn until the process ends. After the first it waits for patience or ctx, after
// each further one for quickEnd, and after a final SIGKILL without limit.
func (p *process) stop(ctx context.Context, patience time.Duration, signals ...syscall.Signal) error {
	p.stopping.Store(true)
	later := context.WithoutCancel(ctx)
	for i, sig := range signals {
		signalProcess(p.pid, sig)
		var ended bool
		if i == 0 {
			ended = p.endsWithin(ctx, patience)
		} else {
			ended = p.endsWithin(later, quickEnd)
		}
		if ended {
			return nil
		}
	}
	signalProcess(p.pid, syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s had to be killed%s", p.name, p.log.tail())
}

func (p *process) endsWithin(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// serverLog is the file that a server writes its messages to.
type serverLog struct {
	path   string
	file   *os.File
	offset int64 // where the messages of this run begin
}

// openLog opens the log at path for appending. A file of more than 8 MiB is emptied: the log only serves to
// find out why a server does not start.
func openLog(path string) (*serverLog, error) {
	const maxSize = 8 << 20
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND | openNoFollow
	if info, err := os.Stat(path); err == nil && info.Size() > maxSize {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	return &serverLog{path: path, file: file, offset: info.Size()}, nil
}

func (l *serverLog) close() error { return l.file.Close() }

// tail returns the last lines of this run for the end of an error, "" if there are none.
func (l *serverLog) tail() string {
	const maxBytes, maxLines = 4096, 15
	file, err := os.Open(l.path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	from := max(l.offset, info.Size()-maxBytes)
	text, err := io.ReadAll(io.NewSectionReader(file, from, maxBytes))
	if err != nil {
		return ""
	}
	return lastLines("its log ends", string(text), maxLines)
}

func lastLines(title, text string, limit int) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-limit):]
	return "; " + title + ":\n  " + strings.Join(lines, "\n  ")
}
