//go:build !linux

package benchkit

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil } // it is for Linux
