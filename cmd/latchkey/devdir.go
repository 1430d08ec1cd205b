package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// Names in the folder of dev, beside the key files. Each server also has a lock file and a log, whose names
// begin with that of its folder and a dot.
const (
	postgresDir = "postgres"
	redisDir    = "redis"
	cacheDir    = "cache" // of a PostgreSQL that was downloaded
)

// lockDevDir makes the folder of dev and locks it: two processes must not start PostgreSQL on the same data.
func lockDevDir(cfg *config.Config, environ []string) (dir string, release func() error, err error) {
	if dir, err = devDir(cfg, environ); err != nil {
		return "", nil, err
	}
	if release, err = devstack.LockDir(dir); err != nil {
		return "", nil, fmt.Errorf("LATCHKEY_DEV_DIR: %w", err)
	}
	return dir, release, nil
}

// devDir returns the folder of the data, which it makes if it is not there: LATCHKEY_DEV_DIR, or a folder of
// the user's.
func devDir(cfg *config.Config, environ []string) (string, error) {
	dir := cfg.DevDir
	if dir == "" {
		dir = defaultDevDir(environ)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("LATCHKEY_DEV_DIR: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: the servers' user must reach its own folders inside
		return "", fmt.Errorf("LATCHKEY_DEV_DIR: %w", err)
	}
	if err := devstack.CheckDir(dir); err != nil {
		return "", fmt.Errorf("LATCHKEY_DEV_DIR: %w", err)
	}
	return dir, checkContent(dir)
}

// defaultDevDir returns the folder that dev uses if LATCHKEY_DEV_DIR is not set. For root it is not in /root:
// root's servers run as another user, who cannot enter that.
func defaultDevDir(environ []string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/latchkey-dev"
	}
	home := ""
	for _, pair := range environ {
		if data, ok := strings.CutPrefix(pair, "XDG_DATA_HOME="); ok && filepath.IsAbs(data) {
			return filepath.Join(data, "latchkey-dev")
		}
		if value, ok := strings.CutPrefix(pair, "HOME="); ok {
			home = value
		}
	}
	if home == "" {
		return filepath.Join(os.TempDir(), fmt.Sprintf("latchkey-dev-%d", os.Getuid()))
	}
	return filepath.Join(home, ".local", "share", "latchkey-dev")
}

// checkContent returns an error if the folder holds files of others and none of dev: dev would write its own
// among them, and to start anew a developer deletes the whole folder.
func checkContent(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("LATCHKEY_DEV_DIR: %w", err)
	}
	var locked, hasKey bool
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == devstack.LockFile: // other programs have a file of this name too
			locked = true
		case isDevKey(name):
			hasKey = true
		case !madeByDev(name) && !slices.Contains([]string{".gitignore", ".gitkeep", "lost+found"}, name):
			others = append(others, name)
		}
	}
	if len(others) == 0 || locked && hasKey {
		return nil
	}
	const named = 3
	text := strings.Join(others[:min(named, len(others))], ", ")
	if more := len(others) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return config.Reject("LATCHKEY_DEV_DIR", fmt.Sprintf("%s holds files that are not from dev (%s)", dir, printable(text)))
}

// madeByDev reports whether dev makes files or folders of this name beside its keys.
func madeByDev(name string) bool {
	return name == cacheDir || slices.ContainsFunc([]string{postgresDir, redisDir}, func(server string) bool {
		return name == server || strings.HasPrefix(name, server+".")
	})
}

// isDevKey reports whether it is the name of a file of devKeys, which may be half-written.
func isDevKey(name string) bool {
	return slices.Contains([]string{secretKeyFile, adminKeyFile, serviceKeyFile}, strings.TrimSuffix(name, newSuffix))
}
