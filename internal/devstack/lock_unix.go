//go:build unix

package devstack

import (
	"errors"
	"os"
	"syscall"
)

// openNoFollow keeps a link planted in a shared directory from being opened in place of our own file.
const openNoFollow = syscall.O_NOFOLLOW

func lockFile(file *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// alive reports whether a process exists, whoever owns it.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// signalProcess ignores failures: they mean that the process is gone or not ours, and the caller looks again.
func signalProcess(pid int, sig syscall.Signal) {
	_ = syscall.Kill(pid, sig)
}
