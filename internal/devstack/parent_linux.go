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

// DieWithParent makes this process receive SIGTERM when its parent dies, if the parent is the go tool: killing `go run`
// otherwise leaves the program that it started running. With any other parent it does nothing. A go tool that died
// before the call counts too. Call it once, when SIGTERM is being handled already.
func DieWithParent() error {
	parent := os.Getppid()
	if !isGoTool(parent) {
		if orphanOfGoRun(parent) {
			return terminateSelf()
		}
		return nil
	}
	result := make(chan error)
	go func() {
		// The request belongs to the thread that makes it, so the thread is kept for good.
		runtime.LockOSThread()
		result <- unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
		select {}
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("ask for a signal when the parent dies: %w", err)
	}
	// It may have died between the two looks, and then no signal comes.
	if os.Getppid() != parent {
		return terminateSelf()
	}
	return nil
}

func isGoTool(pid int) bool {
	program, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && filepath.Base(strings.TrimSuffix(program, " (deleted)")) == "go"
}

// orphanOfGoRun reports whether this process was built by go run, which keeps its programs in the build cache or in a
// temporary go-build directory, and has been handed to init.
func orphanOfGoRun(parent int) bool {
	if parent != 1 {
		return false
	}
	program, err := os.Executable()
	if err != nil {
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
