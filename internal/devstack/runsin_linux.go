package devstack

import (
	"os"
	"strconv"
)

// runsIn reports whether a process works in dir, as PostgreSQL does in its data directory. A process that may
// not be looked at belongs to another user, and PostgreSQL would not run on our data as that user.
func runsIn(pid int, dir string) bool {
	cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	there, err := os.Stat(cwd)
	if err != nil {
		return false
	}
	here, err := os.Stat(dir)
	return err == nil && os.SameFile(here, there)
}
