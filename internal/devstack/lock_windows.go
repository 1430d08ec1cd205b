package devstack

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

const openNoFollow = 0

// lockFile locks one byte far behind the text: others cannot read a locked range, and the text names the holder.
func lockFile(file *os.File) (bool, error) {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(file.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

func alive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	return process.Release() == nil
}

func signalProcess(int, syscall.Signal) {}
