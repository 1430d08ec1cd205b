package ratelimit

import (
	"os/exec"
	"runtime"
	"syscall"
)

// dieWithParent makes cmd end when this process does, killed or not. It must run on the goroutine that starts cmd,
// and release only after cmd has ended.
func dieWithParent(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return runtime.UnlockOSThread
}
