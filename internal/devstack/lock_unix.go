//go:build unix

package devstack

import (
	"errors"
	"os"
	"syscall"
)

// openNoFollow makes an open fail if the file is a link: somebody may have put one in a shared directory.
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

// alive reports whether a process exists, of this user or of another.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// signalProcess ignores errors: they mean that the process is gone or belongs to another user, and the caller
// checks again.
func signalProcess(pid int, sig syscall.Signal) {
	_ = syscall.Kill(pid, sig)
}
