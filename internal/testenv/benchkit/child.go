package benchkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// endPatience is how long a child may take to end: Latchkey drains its calls and mails.
const endPatience = 30 * time.Second

// Child is a process that is measured. It ends with this one.
type Child struct {
	// PID is its process id.
	PID int
	// Name is for messages.
	Name string
	// Stdin is its standard input. End closes it.
	Stdin io.WriteCloser

	lines  *bufio.Scanner // of its stdout
	logs   string
	signal func(os.Signal) error
	done   chan struct{}
	err    error // valid after done
}

// Start runs a program without this one's environment, so that settings in it do not change the figures. The log file
// gets its stderr.
func Start(ctx context.Context, name, logs string, environ []string, program string, args ...string) (*Child, error) {
	file, err := os.OpenFile(logs, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = file.Close() }()                                      // the child has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // G204: running what its caller names is its purpose
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, environ...)
	cmd.Stderr = file
	cmd.SysProcAttr = dieWithParent()
	stdout, stdoutWriter, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cmd.Stdout = stdoutWriter
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &Child{Name: name, lines: bufio.NewScanner(stdout), Stdin: stdin, logs: logs, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel ties the child's end to the thread that forked it
		err := cmd.Start()
		_ = stdoutWriter.Close() // the child has its own
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.PID, c.signal = cmd.Process.Pid, cmd.Process.Signal
	return c, nil
}

// StartSelf runs this program again as one of its children.
func StartSelf(ctx context.Context, logs string, args ...string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Start(ctx, args[0], logs, nil, self, args...)
}

// Ready reads "ready name=value …" from its stdout.
func (c *Child) Ready() (map[string]string, error) {
	line, err := c.Line()
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for field := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(field, "="); ok {
			values[name] = value
		}
	}
	return values, nil
}

// Line reads the next line from its stdout. If it has ended, the error has the end of its log.
func (c *Child) Line() (string, error) {
	if c.lines.Scan() {
		return c.lines.Text(), nil
	}
	text, _ := os.ReadFile(c.logs)
	return "", errors.Join(fmt.Errorf("%s ended; its log: %s", c.Name, text[max(0, len(text)-2000):]), c.lines.Err())
}

// Kill ends it with SIGKILL and waits until it is gone.
func (c *Child) Kill() error {
	if err := c.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	<-c.done
	c.err = nil // killed on purpose
	return nil
}

// End stops it in good order. After Kill it does nothing.
func (c *Child) End() error {
	_ = c.Stdin.Close()
	_ = c.signal(syscall.SIGTERM) // if this fails, it has ended
	select {
	case <-c.done:
	case <-time.After(endPatience):
		_ = c.signal(syscall.SIGKILL)
		<-c.done
		return fmt.Errorf("%s had to be killed", c.Name)
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w", c.Name, c.err)
	}
	return nil
}
