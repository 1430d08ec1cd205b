package main

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

// child is a process that is measured. It ends with this one.
type child struct {
	pid    int
	name   string
	lines  *bufio.Scanner // of its stdout
	stdin  io.WriteCloser
	logs   string
	signal func(os.Signal) error
	done   chan struct{}
	err    error // valid after done
}

// start runs a program without this one's environment, so that settings in it do not change the figures. The log file
// gets its stderr.
func start(ctx context.Context, name, logs string, environ []string, program string, args ...string) (*child, error) {
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
	c := &child{name: name, lines: bufio.NewScanner(stdout), stdin: stdin, logs: logs, done: make(chan struct{})}
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
	c.pid, c.signal = cmd.Process.Pid, cmd.Process.Signal
	return c, nil
}

// startSelf runs this program again as one of its children.
func startSelf(ctx context.Context, logs string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, args[0], logs, nil, self, args...)
}

// ready reads "ready name=value …" from its stdout.
func (c *child) ready() (map[string]string, error) {
	line, err := c.line()
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

func (c *child) line() (string, error) {
	if c.lines.Scan() {
		return c.lines.Text(), nil
	}
	text, _ := os.ReadFile(c.logs)
	return "", errors.Join(fmt.Errorf("%s ended; its log: %s", c.name, text[max(0, len(text)-2000):]), c.lines.Err())
}

// end stops it in good order.
func (c *child) end() error {
	_ = c.stdin.Close()
	_ = c.signal(syscall.SIGTERM) // if this fails, it has ended
	select {
	case <-c.done:
	case <-time.After(endPatience):
		_ = c.signal(syscall.SIGKILL)
		<-c.done
		return fmt.Errorf("%s had to be killed", c.name)
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w", c.name, c.err)
	}
	return nil
}
