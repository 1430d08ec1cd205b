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

// DieWithParent makes this process receive SIGTERM when its parent dies, if the parent is the go tool:
// killing `go run` otherwise leaves the program that it started running. With any other parent it does
// nothing. A go tool that died before the call counts too. The kernel sends the signal again for each further
// thread of the go tool that dies, so the handler must not take a second one for impatience. Call it once,
// when SIGTERM is being handled already.
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

// dieWith asks for the signal. The request belongs to the thread that makes it, so the thread is kept for
// good.
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

// programOf returns the name of a process's program, or "" where it may not be known.
func programOf(pid int) string {
	program, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return ""
	}
	return filepath.Base(strings.TrimSuffix(program, " (deleted)"))
}

// orphanOfGoRun reports whether a program was built by go run, which keeps its programs in the build cache or
// in a temporary go-build directory, and was handed to the process that collects orphans: init or a user's
// systemd.
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
