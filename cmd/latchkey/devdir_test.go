package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// TestDevFolderOfOthers: dev accepts an empty folder and its own. It refuses one with other files before it writes
// anything.
func TestDevFolderOfOthers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		holds   []string // a name with a slash is a folder
		refused string   // the text in the error, "" if there is none
	}{
		{nil, ""},
		{[]string{".gitignore", "lost+found/"}, ""},
		{[]string{"lock"}, ""}, // a start that was killed at once
		{[]string{"cache/"}, ""},
		{[]string{"lock", "postgres.init-123/", "postgres.lock", "secret-key.new"}, ""},
		{[]string{"lock", "admin-key", "postgres/", "postgres.log", "redis/", "redis.lock", "redis.log", "dev.log"}, ""}, // a developer's log beside
		{[]string{"README.md"}, "(README.md)"},
		{[]string{"lock", "status", "info/"}, "(info, status)"}, // as /var/lib/dpkg
		{[]string{"admin-key", "main.go"}, "(main.go)"},
		{[]string{"redis-server/", "postgresql.conf", "go.mod", "go.sum", "main.go"}, "(go.mod, go.sum, main.go and 2 more)"},
		{[]string{"a\x1b[2Jb"}, "(a\ufffd[2Jb)"},
	} {
		dir := t.TempDir()
		for _, name := range test.holds {
			path := filepath.Join(dir, name)
			if strings.HasSuffix(name, "/") {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := checkContent(dir)
		if test.refused == "" {
			if err != nil {
				t.Errorf("%q: %v", test.holds, err)
			}
			continue
		}
		var settings *config.Error
		if !errors.As(err, &settings) || !strings.Contains(err.Error(), "LATCHKEY_DEV_DIR "+dir+" ") || !strings.Contains(err.Error(), test.refused) {
			t.Errorf("%q: %v", test.holds, err)
		}
	}
}

// TestDevRefusesFolder: the command exits with 2, names the setting to use instead, and leaves the folder as it was.
func TestDevRefusesFolder(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	p := start(t, devSettings(dir), "dev")
	if code := p.exit(t); code != exitUsage || !strings.Contains(p.text(&p.stderr), "(notes.txt): it must be a path of an empty or new folder") {
		t.Errorf("exit %d: %s", code, p.text(&p.stderr))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

// TestDevKnowsItsFiles: checkContent knows every name that dev creates. A start that is killed before it has written a
// key must not prevent the next one.
func TestDevKnowsItsFiles(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	p := start(t, devSettings(dir), "dev")
	p.addrs(t)
	p.signal(t, syscall.SIGTERM)
	p.exit(t)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 5 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != devstack.LockFile && !madeByDev(name) && !isDevKey(name) {
			t.Errorf("dev made %s", name)
		}
	}
}
