//go:build unix && !linux

package devstack

import "syscall"

// processAttributes puts a server in a process group of its own, because Ctrl-C reaches the whole foreground group and
// this process stops its servers itself, after it has drained. There is no signal on the parent's death here: the next
// start on the same data ends servers that outlive a killed parent.
func processAttributes(acct account, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: acct.credential()}
}
