package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// startPatience bounds a start. It is long because a start after a crash first replays a log.
const startPatience = time.Minute

// launch describes a server to start.
type launch struct {
	acct    account
	dataDir string           // "" = the server keeps no data
	logFile string           // "" = a file that lasts as long as the server
	socket  string           // name of the socket file
	onDeath syscall.Signal   // sent by the kernel when this process ends first
	signals []syscall.Signal // stop the server, the gentlest first; after the last comes SIGKILL
	// prepare makes the data ready, under its lock (nil without data), and returns the program.
	prepare func(ctx context.Context, lock *fileLock) (string, error)
	// arguments are the program's, given the directory of the socket.
	arguments func(socketDir string) []string
	// ready reports whether the server answers.
	ready func(pid int, socketDir string) bool
}

// server is a running process, with the list of things to undo after its end.
type server struct {
	*process
	socketDir string
	signals   []syscall.Signal
	giveBack  undoList
	stopOnce  sync.Once
	stopErr   error
}

// run starts a server and returns when it is ready. ctx bounds the start only.
func (l launch) run(ctx context.Context) (_ *server, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	s := &server{signals: l.signals}
	defer func() {
		if err != nil {
			_ = s.giveBack.run()
		}
	}()
	lock, err := l.lockData(ctx)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		s.giveBack.add(lock.release)
	}
	program, err := l.prepare(ctx, lock)
	if err != nil {
		return nil, err
	}
	scratch, err := socketDir(l.acct, l.socket)
	if err != nil {
		return nil, err
	}
	s.giveBack.add(scratch.Remove)
	s.socketDir = scratch.Dir
	if l.logFile == "" {
		l.logFile = filepath.Join(scratch.Dir, "log")
	}
	log, err := openLog(l.logFile)
	if err != nil {
		return nil, err
	}
	s.giveBack.add(log.close)
	if err := l.acct.own(l.logFile); err != nil {
		return nil, err
	}
	dir := l.dataDir
	if dir == "" {
		dir = scratch.Dir
	}
	s.process, err = command{
		path: program, args: l.arguments(scratch.Dir), dir: dir, acct: l.acct, onDeath: l.onDeath, lock: lock, log: log,
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	return s, s.becomeReady(ctx, lock, l.ready)
}

// lockData makes the parent of the data directory and takes the data's lock.
func (l launch) lockData(ctx context.Context) (*fileLock, error) {
	if l.dataDir == "" {
		return nil, nil //nolint:nilnil // nothing to lock is no failure
	}
	if err := os.MkdirAll(filepath.Dir(l.dataDir), privateDirMode()); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", l.acct.explain(err, l.dataDir))
	}
	lock, err := lockData(ctx, l.dataDir, l.signals[0], orphanPatience)
	if err != nil {
		return nil, l.acct.explain(err, l.dataDir)
	}
	if err := l.acct.own(lock.file.Name()); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return lock, nil
}

// becomeReady waits until the server is ready. If that fails, it ends the server.
func (s *server) becomeReady(ctx context.Context, lock *fileLock, ready func(pid int, socketDir string) bool) error {
	var err error
	if lock != nil {
		err = lock.name(os.Getpid(), s.pid)
	}
	if err == nil {
		err = s.await(ctx, func() bool { return ready(s.pid, s.socketDir) })
	}
	if err != nil {
		last := s.signals[len(s.signals)-1]
		_ = s.stop(context.WithoutCancel(ctx), quickEnd, last)
	}
	return err
}

// Stop ends the server in good order and waits until it is gone. If ctx ends first, the server gets the signal to end
// at once. If it does not obey, it is killed, and only then Stop returns an error. Only the first call does anything.
func (s *server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		const patience = 10 * time.Second
		s.stopErr = s.stop(ctx, patience, s.signals...)
		s.stopErr = errors.Join(s.stopErr, s.giveBack.run())
	})
	return s.stopErr
}

// Done returns a channel that is closed when the server has ended, by itself or because of Stop.
func (s *server) Done() <-chan struct{} { return s.done }

// Err returns why the server stopped by itself, with the last lines of its log. It returns nil while the
// server runs and after Stop.
func (s *server) Err() error { return s.err() }

// undoList has functions that are called, the last one first, if a start fails or when a server has ended.
type undoList []func() error

func (u *undoList) add(undo func() error) { *u = append(*u, undo) }

func (u *undoList) run() error {
	var errs []error
	for _, undo := range slices.Backward(*u) {
		errs = append(errs, undo())
	}
	*u = nil
	return errors.Join(errs...)
}
