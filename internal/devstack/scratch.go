package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	scratchPrefix = "latchkey-run-"
	// A directory gets its final name when its lock is held, so that a sweep never sees a directory without a lock.
	scratchNewPrefix = ".latchkey-new-"
	scratchLock      = "lock"
)

// Scratch is a private directory that does not outlive this process for long: if the process dies without
// removing it, the next [NewScratch] in the same parent does.
type Scratch struct {
	Dir    string
	remove func() error
}

// NewScratch makes a scratch directory in parent, with mode 0700 and owned by the user that this process's
// servers run as, and removes those that dead processes left there.
func NewScratch(parent string) (*Scratch, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", parent, err)
	}
	acct, err := accountFor(parent)
	if err != nil {
		return nil, err
	}
	return newScratch(parent, acct)
}

func newScratch(parent string, acct account) (*Scratch, error) {
	sweep(parent, acct)
	fresh, err := os.MkdirTemp(parent, scratchNewPrefix)
	if err != nil && parent == os.TempDir() {
		return nil, fmt.Errorf("create a private directory in %s, the directory for temporary files (TMPDIR): %w", parent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create a private directory: %w", err)
	}
	dir := filepath.Join(parent, scratchPrefix+strings.TrimPrefix(filepath.Base(fresh), scratchNewPrefix))
	lock, err := takeLock(filepath.Join(fresh, scratchLock))
	if err == nil {
		err = errors.Join(acct.own(fresh), os.Rename(fresh, dir))
		if err != nil {
			_ = lock.release()
		}
	}
	if err != nil {
		_ = os.RemoveAll(fresh)
		return nil, fmt.Errorf("create a private directory: %w", err)
	}
	return &Scratch{Dir: dir, remove: sync.OnceValue(func() error {
		return errors.Join(removeScratch(dir), lock.release())
	})}, nil
}

// Remove removes the directory and its content. Only the first call does anything.
func (s *Scratch) Remove() error { return s.remove() }

// sweep removes the scratch directories in parent whose process is gone. A directory that cannot be removed
// belongs to another user or is in use; the next sweep tries again.
func sweep(parent string, acct account) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), scratchPrefix) {
			continue
		}
		info, err := entry.Info()
		if err != nil || !acct.mayOwn(info) {
			continue
		}
		dir := filepath.Join(parent, entry.Name())
		if _, err := os.Lstat(filepath.Join(dir, scratchLock)); err != nil {
			_ = os.Remove(dir) // its own process has removed it half-way; only an empty one is removed
			continue
		}
		lock, err := takeLock(filepath.Join(dir, scratchLock))
		if err != nil {
			continue
		}
		_ = removeScratch(dir)
		_ = lock.release()
	}
}

// removeScratch removes the lock file last, so that a directory whose removal was interrupted can still be swept.
func removeScratch(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	var errs []error
	for _, entry := range entries {
		if entry.Name() != scratchLock {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// socketDir makes the private directory of a server's socket. The path of a socket has at most 104 bytes on
// macOS and 108 on Linux, including a final zero, so the directory is as near to the root as possible.
func socketDir(acct account, socket string) (*Scratch, error) {
	const maxPath = 103
	var errs []error
	for _, parent := range []string{"/tmp", os.TempDir()} {
		scratch, err := newScratch(parent, acct)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if path := filepath.Join(scratch.Dir, socket); len(path) > maxPath {
			errs = append(errs, fmt.Errorf("%s is too long for a socket: %d bytes, at most %d", path, len(path), maxPath))
			_ = scratch.Remove()
			continue
		}
		return scratch, nil
	}
	return nil, errors.Join(errs...)
}
