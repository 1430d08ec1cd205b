package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// countUp adds a row to a table and writes the number of rows.
func countUp(ctx context.Context, url string, to io.Writer) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS runs (id int GENERATED ALWAYS AS IDENTITY)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "INSERT INTO runs DEFAULT VALUES"); err != nil {
		return err
	}
	var rows int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM runs").Scan(&rows); err != nil {
		return err
	}
	_, err = fmt.Fprint(to, rows)
	return err
}

func runs(t *testing.T, url string) string {
	t.Helper()
	var text strings.Builder
	if err := countUp(t.Context(), url, &text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func mustStart(t *testing.T, cfg PostgresConfig) *Postgres {
	t.Helper()
	pg, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return pg
}

// TestPostgresLife uses one data directory for all cases in turn: every step needs the one before, and a new directory
// takes half a second.
func TestPostgresLife(t *testing.T) {
	t.Parallel()
	dir := publicTempDir(t)
	cfg := PostgresConfig{DataDir: filepath.Join(dir, "a [b] ü", "data"), Durable: true, LogFile: filepath.Join(dir, "log")}
	parent := filepath.Dir(cfg.DataDir)

	// An initdb that was killed left half a data directory beside the final place, which must not be taken for data.
	unfinished := cfg.DataDir + ".init-1"
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unfinished, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An initdb that was interrupted by its context leaves nothing.
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := StartPostgres(short, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a start that was interrupted gave %v", err)
	}

	pg := mustStart(t, cfg)
	checkServer(t, pg, cfg)
	if entries := names(t, parent); entries != "data data.lock" {
		t.Errorf("beside the data there is %q", entries)
	}
	if err := pg.EnsureDatabase(t.Context(), "latch-key"); err != nil {
		t.Fatal(err)
	}
	url := pg.URL("latch-key")
	if got := runs(t, url); got != "1" {
		t.Fatalf("%s rows after the first run", got)
	}
	if err := pg.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-pg.Done()
	if err := pg.Err(); err != nil {
		t.Errorf("after Stop, Err gives %v", err)
	}
	if _, err := os.Stat(pg.socketDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Stop the socket's directory is there: %v", err)
	}

	cfg.Settings = map[string]string{"shared_buffers": "nonsense"}
	if _, err := StartPostgres(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Fatalf("a start that fails does not say why: %v", err)
	}
	cfg.Settings = map[string]string{"shared_buffers": "16MB"}

	pg = mustStart(t, cfg)
	if err := pg.EnsureDatabase(t.Context(), "latch-key"); err != nil {
		t.Fatal(err)
	}
	if got := runs(t, pg.URL("latch-key")); got != "2" {
		t.Fatalf("%s rows after a restart", got)
	}
	pg = crashAndReuseNumber(t, pg, cfg)
	if got := runs(t, pg.URL("latch-key")); got != "3" {
		t.Fatalf("%s rows after a crash", got)
	}
}

// checkServer checks the server's properties, beyond that it answers.
func checkServer(t *testing.T, pg *Postgres, cfg PostgresConfig) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for name, want := range map[string]string{
		"listen_addresses": "", "fsync": "on", "server_encoding": "UTF8", "max_connections": "100", "TimeZone": "UTC",
		"data_directory": cfg.DataDir, "dynamic_shared_memory_type": "mmap",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
	info, err := os.Stat(pg.socketDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory has mode %v (%v)", info.Mode(), err)
	}
	if _, server := holders(cfg.DataDir + ".lock"); server != pg.pid {
		t.Errorf("the lock names server %d, it is %d", server, pg.pid)
	}
	held, err := lockData(t.Context(), cfg.DataDir, syscall.SIGINT, 50*time.Millisecond)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("locking the data of a running server gave %v, %v", held, err)
	}
}

// crashAndReuseNumber kills the server and gives its number, as postmaster.pid has it, to another program of the same
// user, as a reboot may do.
func crashAndReuseNumber(t *testing.T, pg *Postgres, cfg PostgresConfig) *Postgres {
	t.Helper()
	if err := pg.Err(); err != nil {
		t.Errorf("while the server runs, Err gives %v", err)
	}
	pidFile := filepath.Join(cfg.DataDir, "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	signalProcess(pg.pid, syscall.SIGKILL)
	<-pg.Done()
	if err := pg.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("after a crash, Err gives %v", err)
	}
	if err := pg.Stop(t.Context()); err != nil {
		t.Errorf("Stop after a crash: %v", err)
	}
	acct, err := accountFor(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := command{path: "/bin/sleep", args: []string{"60"}, dir: "/", acct: acct, onDeath: syscall.SIGKILL}.
		start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer signalProcess(other.pid, syscall.SIGKILL)
	renumbered := strings.Replace(string(text), strconv.Itoa(pg.pid), strconv.Itoa(other.pid), 1)
	if err := os.WriteFile(pidFile, []byte(renumbered), 0o600); err != nil {
		t.Fatal(err)
	}
	return mustStart(t, cfg)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]string, len(entries))
	for i, entry := range entries {
		list[i] = entry.Name()
	}
	return strings.Join(list, " ")
}

func TestPostgresRefusesOtherDirectories(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"somebody's files": {"letter.txt": "dear"},
		"unreadable":       {"PG_VERSION": "many\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(publicTempDir(t), "data")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, content := range files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
			if err == nil || !strings.Contains(err.Error(), "data directory of PostgreSQL") {
				t.Errorf("started on it: %v", err)
			}
			for file, content := range files {
				if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != content {
					t.Errorf("%s now reads %q: %v", file, got, err)
				}
			}
		})
	}
	if _, err := StartPostgres(t.Context(), PostgresConfig{}); err == nil {
		t.Error("started without a data directory")
	}
}

func TestReadyIgnoresTheLastRun(t *testing.T) {
	t.Parallel()
	data := dataDirectory{path: t.TempDir()}
	dead := deadPID(t)
	write := func(status string, age time.Duration) {
		t.Helper()
		content := fmt.Sprintf("%d\n%s\n1790000000\n5432\n/tmp\n\n  1 2\n%s\n", dead, data.path, status)
		if err := os.WriteFile(data.pidFile(), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).Add(-age)
		if err := os.Chtimes(data.pidFile(), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if data.ready(dead) {
		t.Error("ready without a file")
	}
	write("ready   ", time.Hour)
	if err := data.clearPID(); err != nil {
		t.Fatal(err)
	}
	if data.ready(dead) {
		t.Error("the file of the last run counts for a server with the same number")
	}
	write("starting", 0)
	if data.ready(dead) {
		t.Error("ready while starting")
	}
	write("ready   ", 0)
	if !data.ready(dead) || data.ready(dead+1) {
		t.Error("not ready, or ready under another number")
	}
}
