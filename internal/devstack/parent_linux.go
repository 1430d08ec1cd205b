package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DieWithParent makes this process receive SIGTERM when its parent dies, if the parent is the go tool. Otherwise the
// program would keep running after `go run` is killed. With any other parent it does nothing. It also works if the go
// tool died before the call. The kernel sends the signal again for each further thread of the go tool that dies, so the
// handler must not treat a second signal as a second request. Call it once, after a handler for SIGTERM is set.
func DieWithParent() error {
	parent := os.Getppid()
	switch program, err := os.Executable(); {
	case programOf(parent) == "go":
		return dieWith(parent)
	case err == nil && orphanOfGoRun(program, parent, programOf(parent)):
		return terminateSelf()
	default:
		return nil
	}
}

// dieWith asks the kernel for the signal. The request belongs to the thread that makes it, so this thread is
// kept for ever.
func dieWith(parent int) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
		select {}
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("ask for a signal when the parent dies: %w", err)
	}
	// A parent that died before the request sends no signal.
	if os.Getppid() != parent {
		return terminateSelf()
	}
	return nil
}

// programOf returns the name of a process's program, or "" if that may not be read.
func programOf(pid int) string {
	program, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return ""
	}
	return filepath.Base(strings.TrimSuffix(program, " (deleted)"))
}

// orphanOfGoRun reports whether this program was built by go run and its parent is now the process that adopts orphans:
// init or a user's systemd. go run keeps its programs in the build cache or in a temporary go-build directory.
func orphanOfGoRun(program string, parent int, parentProgram string) bool {
	if parent != 1 && parentProgram != "systemd" {
		return false
	}
	for part := range strings.SplitSeq(filepath.Dir(program), string(filepath.Separator)) {
		if strings.HasPrefix(part, "go-build") {
			return true
		}
	}
	return false
}

func terminateSelf() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	return nil
}
