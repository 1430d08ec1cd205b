package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLockDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "it")
	holder, said := startHelper(t, selfCommand(t), "lock", dir)

	_, err := LockDir(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Dir != dir || locked.PID != number(t, said[0]) {
		t.Fatalf("a held directory gives %v, want process %s", err, said[0])
	}
	if want := fmt.Sprintf("%s is in use by process %s", dir, said[0]); err.Error() != want {
		t.Errorf("the text is %q, want %q", err, want)
	}

	holder.kill()
	release, err := LockDir(dir)
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if _, err := LockDir(dir); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("a second lock by the same process gives %v", err)
	}
	for range 2 { // the second call does nothing
		if err := release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	// A process that another test forks at this moment holds a copy of the lock until its exec.
	again, err := LockDir(dir)
	for deadline := time.Now().Add(10 * time.Second); errors.As(err, &locked) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		again, err = LockDir(dir)
	}
	if err != nil {
		t.Errorf("after release: %v", err)
	} else if err := again(); err != nil {
		t.Error(err)
	}
	if got := (&LockedError{Dir: "/d"}).Error(); got != "/d is in use by another process" {
		t.Errorf("an unknown holder reads %q", got)
	}
}

func TestLockFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "precious")
	if err := os.WriteFile(target, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); err == nil {
		t.Error("locked through a link")
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "kept" {
		t.Errorf("the link's target now reads %q, %v", text, err)
	}
}

// TestLockDataEndsOrphan has a server that outlives its starter, as on systems without a signal on the parent's death.
func TestLockDataEndsOrphan(t *testing.T) {
	t.Parallel()
	dataDir := filepath.Join(t.TempDir(), "data")
	lock, err := takeLock(dataDir + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := command{path: "/bin/sleep", args: []string{"60"}, dir: "/", onDeath: syscall.SIGKILL, lock: lock}.
		start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer signalProcess(orphan.pid, syscall.SIGKILL)
	// If only the file is closed, the child keeps the lock, as after the death of this process.
	if err := lock.name(deadPID(t), orphan.pid); err != nil {
		t.Fatal(err)
	}
	if err := lock.file.Close(); err != nil {
		t.Fatal(err)
	}
	taken, err := lockData(t.Context(), dataDir, syscall.SIGINT, 10*time.Second)
	if err != nil {
		t.Fatalf("the orphan kept the data: %v", err)
	}
	<-orphan.done
	if orphan.waitErr == nil || !strings.Contains(orphan.waitErr.Error(), "interrupt") {
		t.Errorf("the orphan ended with %v, want an interrupt", orphan.waitErr)
	}
	if err := taken.release(); err != nil {
		t.Error(err)
	}
}

// deadPID returns the number of a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	p, err := command{path: "/bin/true", dir: "/"}.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	return p.pid
}

func TestScratchIsSweptAfterDeath(t *testing.T) {
	t.Parallel()
	parent := publicTempDir(t)
	holder, said := startHelper(t, selfCommand(t), "scratch", parent)
	stale := said[0]
	if err := os.MkdirAll(filepath.Join(stale, "data", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(parent, scratchPrefix+"by-hand")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	first, err := NewScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err != nil {
		t.Fatalf("the directory of a living process was swept: %v", err)
	}
	holder.kill()
	second, err := NewScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of a dead process is there: %v", err)
	}
	if got := names(t, parent); strings.Count(got, scratchPrefix) != 3 {
		t.Errorf("after the sweep there is %s, want two of this process and one made by hand", got)
	}
	for _, scratch := range []*Scratch{first, second, first} {
		if err := scratch.Remove(); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, parent); got != filepath.Base(foreign) {
		t.Errorf("in the end there is %s", got)
	}
}
