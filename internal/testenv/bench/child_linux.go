package main

import "syscall"

// dieWithParent puts children in a group of their own, too: Ctrl-C reaches the whole foreground group, and the children
// are stopped in order.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
