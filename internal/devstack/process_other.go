//go:build unix && !linux

package devstack

import "syscall"

// processAttributes puts a server in a process group of its own, because Ctrl-C reaches the whole foreground
// group and this process stops its servers itself, after it has drained. There is no signal on the parent's
// death here: what outlives a killed parent is ended by the next start on its data.
func processAttributes(acct account, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: acct.credential()}
}
