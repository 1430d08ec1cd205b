package devstack

import (
	"os"
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
			c, said := startHelper(t, exec.CommandContext(t.Context(), parent), "go", self)
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

func TestDieWithParentThatIsGone(t *testing.T) {
	t.Parallel()
	c, said := startHelper(t, selfCommand(t), "orphan")
	if said[0] != "terminated" {
		t.Fatalf("a program whose parent died before it looked says %q", said)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		program       string
		parent        int
		parentProgram string
		want          bool
	}{
		{"/tmp/go-build123/b001/exe/latchkey", 1, "init", true},
		{"/home/me/.cache/go-build/a1/a1b2-d/latchkey", 1, "", true},
		{"/home/me/.cache/go-build/a1/a1b2-d/latchkey", 900, "systemd", true},
		{"/home/me/.cache/go-build/a1/a1b2-d/latchkey", 900, "zsh", false},
		{"/usr/local/bin/latchkey", 1, "systemd", false},
		{"/srv/go-build", 1, "systemd", false},
	} {
		if got := orphanOfGoRun(test.program, test.parent, test.parentProgram); got != test.want {
			t.Errorf("%s under %d %s: %v", test.program, test.parent, test.parentProgram, got)
		}
	}
}

// dieWithTheDead names a parent that is not this process's, as if the parent had died meanwhile.
func dieWithTheDead() error { return dieWith(os.Getppid() + 1) }
