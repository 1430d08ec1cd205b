package benchkit

import "syscall"

// dieWithParent also puts children in a group of their own: Ctrl-C reaches the whole foreground group, and the program that measures
// stops the children itself, in order.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
