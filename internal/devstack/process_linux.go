package devstack

import "syscall"

// processAttributes puts a server in a process group of its own, because Ctrl-C reaches the whole foreground
// group and this process stops its servers itself, after it has drained.
func processAttributes(acct account, onDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onDeath, Credential: acct.credential()}
}
