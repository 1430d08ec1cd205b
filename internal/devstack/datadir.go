package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dataDirectory is the data directory of PostgreSQL. Its methods run under the lock of the directory.
type dataDirectory struct {
	path    string
	acct    account
	durable bool
	major   int         // of the programs that were found
	stale   fs.FileInfo // postmaster.pid as a crashed server left it, or nil
}

// prepare finds the programs, makes the directory if there is none, and returns the path of the server program.
func (d *dataDirectory) prepare(ctx context.Context, where finder, binDir string, lock *fileLock) (string, error) {
	madeBy, err := majorOf(d.path)
	if err != nil {
		return "", d.acct.explain(err, d.path)
	}
	programs, err := where.find(ctx, binDir, madeBy)
	if err != nil {
		return "", err
	}
	d.major = programs.major
	if madeBy == 0 {
		if err := d.create(ctx, programs, lock); err != nil {
			return "", err
		}
	}
	return programs.postgres(), d.clearPID()
}

// create runs initdb in a directory beside the final one and then renames it, so that the remains of an
// interrupted initdb are never taken for data. The next create removes them.
func (d *dataDirectory) create(ctx context.Context, programs binaries, lock *fileLock) error {
	leftovers, err := filepath.Glob(globEscape(d.path) + ".init-*")
	if err != nil {
		return fmt.Errorf("look for unfinished data directories: %w", err)
	}
	for _, dir := range leftovers {
		_ = os.RemoveAll(dir)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(d.path), filepath.Base(d.path)+".init-*")
	if err != nil {
		return fmt.Errorf("create the data directory: %w", d.acct.explain(err, d.path))
	}
	if err = d.acct.own(fresh); err == nil {
		err = d.initdb(ctx, programs, fresh, lock)
	}
	if err == nil {
		err = os.Rename(fresh, d.path)
	}
	if err == nil && d.durable {
		err = syncDir(filepath.Dir(d.path))
	}
	if err != nil {
		_ = os.RemoveAll(fresh)
		return fmt.Errorf("create the data directory: %w", err)
	}
	return nil
}

// initdb uses the locale C.UTF-8, in which lower() handles more than ASCII. If the system does not have it, it uses C.
func (d *dataDirectory) initdb(ctx context.Context, programs binaries, dir string, lock *fileLock) error {
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} {
		if err = d.initdbIn(ctx, programs, dir, locale, lock); err == nil || !strings.Contains(err.Error(), "locale") {
			return err
		}
	}
	return err
}

func (d *dataDirectory) initdbIn(ctx context.Context, programs binaries, dir, locale string, lock *fileLock) error {
	scratch, err := newScratch(os.TempDir(), d.acct)
	if err != nil {
		return err
	}
	defer func() { _ = scratch.Remove() }()
	log, err := openLog(filepath.Join(scratch.Dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.close() }()
	args := []string{
		"-D", dir, "-A", "trust", "-U", superuser, "-E", "UTF8", "--locale=" + locale, "--no-instructions",
	}
	if !d.durable {
		args = append(args, "--no-sync")
	}
	running, err := command{
		path: programs.initdb(), args: args, dir: dir, acct: d.acct, onDeath: syscall.SIGKILL, lock: lock, log: log,
	}.start(ctx)
	if err != nil {
		return err
	}
	select {
	case <-running.done:
	case <-ctx.Done():
		_ = running.stop(context.WithoutCancel(ctx), time.Second, syscall.SIGTERM)
		return fmt.Errorf("initdb was interrupted: %w", context.Cause(ctx))
	}
	if running.waitErr != nil {
		return running.failure("failed")
	}
	return nil
}

// clearPID removes the postmaster.pid of a crashed server if its process number now belongs to another
// program: PostgreSQL would take that program for a running server. If no process has the number, PostgreSQL
// removes the file itself.
func (d *dataDirectory) clearPID() error {
	d.stale = nil
	path := d.pidFile()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the data directory: %w", d.acct.explain(err, d.path))
	}
	pid := d.postmaster()
	switch {
	case !alive(pid):
		d.stale = info
		return nil
	case runsIn(pid, d.path):
		// Not started by this package: the lock would not have been free.
		return fmt.Errorf("%w; it is a PostgreSQL server that was started by hand: stop it with `kill -INT %d`",
			&LockedError{Dir: d.path, PID: pid}, pid)
	default:
		return os.Remove(path)
	}
}

func (d *dataDirectory) pidFile() string { return filepath.Join(d.path, "postmaster.pid") }

// postmaster returns the process number in the server's file, 0 if there is none.
func (d *dataDirectory) postmaster() int {
	text, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid
}

// ready reports whether the server with this process number is ready. Like pg_ctl it reads the eighth line of
// postmaster.pid. The file of a crashed server can contain the number of the new one, because numbers repeat
// in containers; then the time of the file distinguishes the two.
func (d *dataDirectory) ready(pid int) bool {
	text, err := os.ReadFile(d.pidFile())
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) || strings.TrimSpace(lines[7]) != "ready" {
		return false
	}
	info, err := os.Stat(d.pidFile())
	return err == nil && (d.stale == nil || !info.ModTime().Equal(d.stale.ModTime()))
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// globEscape returns a pattern that matches exactly this path.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
