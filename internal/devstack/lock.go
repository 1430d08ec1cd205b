package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// orphanPatience bounds how long a start waits for the server of a killed process to end. An immediate
// shutdown takes PostgreSQL at most 5 s, after which it kills its own children.
const orphanPatience = 10 * time.Second

// LockedError says that another process holds a directory.
type LockedError struct {
	Dir string // the directory that is held
	PID int    // its holder, or 0 when that is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return e.Dir + " is in use by another process"
	}
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// LockFile is the name of the file that [LockDir] makes.
const LockFile = "lock"

// LockDir takes dir for this process, creating it when it is absent: an advisory lock on its [LockFile],
// which holds the number of this process. The lock ends with release or with the process, however that ends,
// so a lock file that is left behind never blocks. When another process holds it the error is a
// [*LockedError]. The lock file is given to its folder's owner, see [OwnAsFolder].
func LockDir(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, privateDirMode()); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	path := filepath.Join(dir, LockFile)
	lock, err := takeLock(path)
	if errors.Is(err, errLockHeld) {
		return nil, &LockedError{Dir: dir, PID: waitForHolder(path)}
	}
	if err == nil {
		if err = OwnAsFolder(lock.file); err != nil {
			_ = lock.release()
		}
	}
	if err != nil {
		return nil, account{}.explain(err, path)
	}
	return sync.OnceValue(lock.release), nil
}

var errLockHeld = errors.New("lock is held")

// fileLock is a held advisory lock. It belongs to the open file, so a child process that inherits the file
// keeps the lock until it ends too.
type fileLock struct {
	file *os.File
}

func takeLock(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|openNoFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	ok, err := lockFile(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		_ = file.Close()
		return nil, errLockHeld
	}
	lock := &fileLock{file: file}
	if err := lock.name(os.Getpid()); err != nil {
		_ = lock.release()
		return nil, err
	}
	return lock, nil
}

// name writes the holders of the lock: this process first, then the server that inherited it, if any.
func (l *fileLock) name(pids ...int) error {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	text := strings.Join(words, " ") + "\n"
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

// release empties the file instead of removing it: a removed file can be locked by one process while the next
// one locks a new file of the same name.
func (l *fileLock) release() error {
	truncErr := l.file.Truncate(0)
	return errors.Join(truncErr, l.file.Close())
}

// holders reads the two process ids that [fileLock.name] wrote; 0 for one that is not there.
func holders(path string) (owner, server int) {
	file, err := os.OpenFile(path, os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return 0, 0
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, 64))
	if err != nil {
		return 0, 0
	}
	pids := [2]int{}
	for i, word := range strings.Fields(string(text)) {
		if i == len(pids) {
			break
		}
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids[i] = pid
		}
	}
	return pids[0], pids[1]
}

// waitForHolder reads the number of the holder, which is written a moment after the lock is taken.
func waitForHolder(path string) int {
	const tries, pause = 20, 5 * time.Millisecond
	for range tries {
		if owner, _ := holders(path); owner != 0 {
			return owner
		}
		time.Sleep(pause)
	}
	return 0
}

// lockData takes the lock of a data directory, a file beside it, and waits up to patience for a server whose
// starter is gone. Where the kernel does not end that server, stop (the server's signal for an orderly end)
// does.
func lockData(ctx context.Context, dataDir string, stop syscall.Signal, patience time.Duration) (*fileLock, error) {
	path := dataDir + ".lock"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	// The kernel's signal needs a moment; half a second is many times what an idle server takes to end.
	const asksAfter = 100
	for tick := 0; ; tick++ {
		lock, err := takeLock(path)
		if !errors.Is(err, errLockHeld) {
			return lock, err
		}
		owner, server := holders(path)
		if tick == asksAfter && server != 0 && !alive(owner) {
			signalProcess(server, stop)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if alive(owner) {
				server = owner
			}
			return nil, &LockedError{Dir: dataDir, PID: server}
		}
	}
}
