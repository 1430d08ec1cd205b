//go:build unix

package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// standbyName is the name that the standby gives to its primary.
const standbyName = "standby"

// Pair is two PostgreSQL servers of one test: a primary, and a standby that has every commit before the commit is
// answered (synchronous_commit is on). They last as long as the test.
type Pair struct {
	t                testing.TB
	scratch          *devstack.Scratch
	primary, standby *devstack.Postgres
}

// NewPair starts them, with one migrated database.
func NewPair(t testing.TB) *Pair {
	t.Helper()
	parent := memoryDir()
	if parent == "" {
		parent = os.TempDir()
	}
	scratch, err := devstack.NewScratch(parent)
	must(t, err)
	p := &Pair{t: t, scratch: scratch}
	t.Cleanup(p.remove)
	// The standby is a copy of the stopped primary. That needs no pg_basebackup, which not every installation has.
	first := p.start("one", nil)
	must(t, first.EnsureDatabase(t.Context(), pairDatabase))
	must(t, Migrate(t.Context(), first.URL(pairDatabase)))
	must(t, first.Stop(context.WithoutCancel(t.Context())))
	must(t, copyTree(p.dir("two"), p.dir("one")))
	p.primary = p.start("one", map[string]string{"synchronous_standby_names": standbyName})
	must(t, os.WriteFile(filepath.Join(p.dir("two"), "standby.signal"), nil, 0o600))
	must(t, ownAs(filepath.Join(p.dir("two"), "standby.signal"), filepath.Join(p.dir("two"), "PG_VERSION")))
	p.standby = p.start("two", map[string]string{
		"primary_conninfo": "host=" + socketOf(p.primary) + " port=5432 user=latchkey application_name=" + standbyName,
	})
	p.await("the standby has caught up", p.primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	return p
}

// pairDatabase is the database of a pair.
const pairDatabase = "latchkey"

func (p *Pair) dir(name string) string { return filepath.Join(p.scratch.Dir, name) }

func (p *Pair) start(name string, settings map[string]string) *devstack.Postgres {
	p.t.Helper()
	all := map[string]string{
		"wal_level": "replica", "max_wal_senders": "4", "synchronous_commit": "on", "shared_buffers": "16MB",
		"max_wal_size": "128MB", "min_wal_size": "32MB",
	}
	maps.Copy(all, settings)
	server, err := devstack.StartPostgres(p.t.Context(), devstack.PostgresConfig{DataDir: p.dir(name), MaxConnections: 100, Settings: all})
	must(p.t, err)
	return server
}

func (p *Pair) remove() {
	// The data is deleted too, so nothing is worth waiting for.
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	cancel()
	for _, server := range []*devstack.Postgres{p.standby, p.primary} {
		if server != nil {
			_ = server.Stop(ctx) // it may have been killed
		}
	}
	if err := p.scratch.Remove(); err != nil {
		p.t.Errorf("testenv: %v", err)
	}
}

// URL names both servers, the primary first, for clients that look for the one that accepts writes.
func (p *Pair) URL() string {
	return "postgres://latchkey@:5432,:5432/" + pairDatabase + "?target_session_attrs=read-write&host=" +
		socketOf(p.primary) + "," + socketOf(p.standby)
}

// PrimaryURL names the first server only.
func (p *Pair) PrimaryURL() string { return p.primary.URL(pairDatabase) }

// StandbyURL names the second server only.
func (p *Pair) StandbyURL() string { return p.standby.URL(pairDatabase) }

// SetReadOnly makes the first server refuse writes on all its connections, and keeps the connections open.
func (p *Pair) SetReadOnly() {
	p.t.Helper()
	p.exec(p.primary, "ALTER SYSTEM SET default_transaction_read_only = on")
	p.exec(p.primary, "SELECT pg_reload_conf()")
	p.await("the old primary is read-only", p.primary, "SELECT current_setting('transaction_read_only')::boolean")
}

// Promote makes the second server a primary.
func (p *Pair) Promote() {
	p.t.Helper()
	p.exec(p.standby, "SELECT pg_promote(true, 30)")
	p.await("the standby takes writes", p.standby, "SELECT NOT pg_is_in_recovery()")
}

// StopStandby ends the second server in good order.
func (p *Pair) StopStandby() {
	p.t.Helper()
	must(p.t, p.standby.Stop(context.WithoutCancel(p.t.Context())))
}

// Kill ends the first server like `kill -9`.
func (p *Pair) Kill() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir("one"), "postmaster.pid"))
	must(p.t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	must(p.t, err)
	must(p.t, syscall.Kill(pid, syscall.SIGKILL))
	<-p.primary.Done()
}

func (p *Pair) exec(server *devstack.Postgres, statement string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), server.URL(pairDatabase))
	must(p.t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(p.t.Context())) }()
	_, err = conn.Exec(p.t.Context(), statement)
	must(p.t, err)
}

func (p *Pair) await(what string, server *devstack.Postgres, question string) {
	p.t.Helper()
	Eventually(p.t, time.Minute, what, func() bool {
		conn, err := pgx.Connect(p.t.Context(), server.URL(pairDatabase))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(context.WithoutCancel(p.t.Context())) }()
		var yes bool
		return conn.QueryRow(p.t.Context(), question).Scan(&yes) == nil && yes
	})
}

func socketOf(server *devstack.Postgres) string {
	_, dir, _ := strings.Cut(server.URL(""), "host=")
	return dir
}

// copyTree copies the data of a server that was stopped, with its owner and modes.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, within)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		case entry.Type().IsRegular():
			var content []byte
			if content, err = os.ReadFile(path); err == nil { //nolint:gosec // G122: a test's own files
				err = os.WriteFile(target, content, 0o600)
			}
		default:
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		return errors.Join(err, ownAs(target, path))
	})
}

// ownAs gives a file to the owner of another.
func ownAs(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}
