//go:build unix

package devstack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestServersEndWithKilledProcess kills the process that started the servers, and starts them again on the same data at
// once.
func TestServersEndWithKilledProcess(t *testing.T) {
	t.Parallel()
	t.Run("own user", func(t *testing.T) {
		t.Parallel()
		dir := publicTempDir(t)
		killAndRestart(t, dir, func() *exec.Cmd { return selfCommand(t) })
	})
	if os.Geteuid() == 0 { // otherwise the case above is the same
		t.Run("ordinary user", func(t *testing.T) {
			t.Parallel()
			killAndRestartAsNobody(t)
		})
	}
}

func killAndRestartAsNobody(t *testing.T) {
	t.Helper()
	const nobody = 65534
	dir := publicTempDir(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	program := copySelf(t, filepath.Join(publicTempDir(t), "devstack.test"))
	killAndRestart(t, dir, func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = dir
		return cmd
	})
}

func killAndRestart(t *testing.T, dir string, command func() *exec.Cmd) {
	t.Helper()
	run := func() (*child, []string) {
		t.Helper()
		return startHelper(t, command(), "serve", dir)
	}
	first, said := run()
	first.kill()
	// The second start does not wait until the kernel has ended the first servers.
	second, saidNext := run()
	for _, word := range said[:min(2, len(said))] {
		if pid := number(t, word); !gone(t, pid) {
			t.Errorf("server %d runs on beside its successor", pid)
		}
	}
	second.kill()
	if runtime.GOOS == "linux" { // elsewhere only the next start ends them
		for _, word := range saidNext[:min(2, len(saidNext))] {
			pid := number(t, word)
			eventually(t, "server "+word+" ends with the process that started it", func() bool { return gone(t, pid) })
		}
	}

	pg := mustStart(t, PostgresConfig{DataDir: filepath.Join(dir, "pg")})
	if got := runs(t, pg.URL("postgres")); got != "3" {
		t.Errorf("%s rows after two kills, want 3", got)
	}
	rd, err := StartRedis(t.Context(), RedisConfig{DataDir: filepath.Join(dir, "redis"), AppendOnly: true})
	if errors.Is(err, ErrNoRedis) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stopRedis(t, rd)
	if n := pingRedis(t, rd.URL()); n != 1 {
		t.Errorf("redis answered %d", n)
	}
}

// copySelf copies this program. No test may fork while the copy is open for writing: the child would hold it open until
// its exec, and a start of the copy meanwhile would fail with "text file busy".
func copySelf(t *testing.T, to string) string {
	t.Helper()
	from, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}
