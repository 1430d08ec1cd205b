package devstack

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestDieWithParent starts a program named go that starts this one, and kills it.
func TestDieWithParent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parent string
		dies   bool
	}{{"go", true}, {"supervisor", false}} {
		t.Run(test.parent, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			self := copySelf(t, filepath.Join(dir, "program"))
			parent := copySelf(t, filepath.Join(dir, test.parent))
			c, said := startHelper(t, exec.CommandContext(t.Context(), parent, self), "go")
			pid := number(t, said[0])
			defer signalProcess(pid, syscall.SIGKILL)
			_ = c.cmd.Process.Kill()
			if !test.dies {
				time.Sleep(50 * time.Millisecond) // a signal takes less than 1 ms
				if gone(t, pid) {
					t.Error("the program ended with a parent that is not the go tool")
				}
				return
			}
			eventually(t, "the program ends", func() bool { return gone(t, pid) })
			if line, err := c.output.ReadString('\n'); line != "terminated\n" {
				t.Errorf("the program had no chance to end in order: %q, %v", line, err)
			}
		})
	}
}
