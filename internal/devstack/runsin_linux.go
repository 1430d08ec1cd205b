package devstack

import (
	"os"
	"strconv"
)

// runsIn reports whether a process works in dir, as PostgreSQL does in its data directory. A process that
// this one may not inspect belongs to another user, and a PostgreSQL of that user could not run on our data.
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
