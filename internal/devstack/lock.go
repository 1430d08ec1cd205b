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
// shutdown of PostgreSQL takes at most 5 s; after that it kills its own children.
const orphanPatience = 10 * time.Second

// LockedError says that another process holds a directory.
type LockedError struct {
	Dir string // the directory that is held
	PID int    // its holder, or 0 if that is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return e.Dir + " is in use by another process"
	}
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// LockFile is the name of the file that [LockDir] makes.
const LockFile = "lock"

// LockDir locks dir for this process, and creates it if it does not exist. The lock is an advisory lock on
// [LockFile], which contains the number of this process. It ends with release or with the process, however
// that ends, so an old lock file never blocks. If another process holds the lock, the error is a
// [*LockedError]. The lock file belongs to the owner of its folder, see [OwnAsFolder].
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

// fileLock is an advisory lock that is held. It belongs to the open file, so a child process that inherits
// the file holds the lock too, until it ends.
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

// name writes the holders of the lock into the file: this process, then the server that has inherited the
// lock, if there is one.
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

// release empties the file and does not remove it: one process could hold the lock on the removed file while
// the next one locks a new file of the same name.
func (l *fileLock) release() error {
	truncErr := l.file.Truncate(0)
	return errors.Join(truncErr, l.file.Close())
}

// holders returns the two process numbers that [fileLock.name] wrote, 0 for each that is missing.
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

// waitForHolder returns the process number of the holder, who writes it a moment after taking the lock.
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

// lockData takes the lock of a data directory, which is a file beside it. It waits up to patience for a server whose
// starter is gone. If the kernel does not end that server, lockData sends it stop, the signal for an orderly end.
func lockData(ctx context.Context, dataDir string, stop syscall.Signal, patience time.Duration) (*fileLock, error) {
	path := dataDir + ".lock"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	// The kernel's signal needs a moment; half a second is many times as long as an idle server takes to end.
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
