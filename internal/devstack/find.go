package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest version of PostgreSQL that is accepted: initdb has --no-instructions since 14.
const minMajor = 14

// binaries is one installation of PostgreSQL.
type binaries struct {
	dir   string
	major int
}

func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }
func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }

// finder looks for PostgreSQL. Its fields are where it looks, so that tests can point it elsewhere.
type finder struct {
	globs []string // directories outside PATH, as patterns; the highest version of each pattern comes first
	path  func(string) (string, error)
	fetch func(context.Context) (string, error) // downloads PostgreSQL and returns its directory of programs
}

func systemFinder() finder {
	return finder{
		globs: []string{
			"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu: kept out of PATH
			"/usr/pgsql-*/bin",                   // PGDG on Fedora, RHEL
			"/usr/libexec/postgresql*",           // Alpine
			"/opt/homebrew/opt/postgresql@*/bin", // Homebrew: versioned formulae are kept out of PATH
			"/usr/local/opt/postgresql@*/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		},
		path: exec.LookPath,
	}
}

// find returns the first installation that can open the data: only the major version that made data can open
// it. dataMajor is 0 if there is no data yet. If the caller names a directory, find uses that or returns an
// error; it does not look elsewhere.
func (f finder) find(ctx context.Context, given string, dataMajor int) (binaries, error) {
	if given != "" {
		return f.checkGiven(ctx, given, dataMajor)
	}
	var seen []string
	for _, dir := range f.candidates() {
		found, err := inspect(ctx, dir)
		if ctx.Err() != nil {
			return binaries{}, fmt.Errorf("looking for PostgreSQL: %w", context.Cause(ctx))
		}
		if err != nil {
			continue
		}
		if found.major >= minMajor && (dataMajor == 0 || found.major == dataMajor) {
			return found, nil
		}
		seen = append(seen, fmt.Sprintf("%d in %s", found.major, dir))
	}
	if dataMajor == 0 || dataMajor == npmMajor {
		dir, err := f.fetch(ctx)
		if err != nil {
			return binaries{}, missing(dataMajor, seen, err)
		}
		found, err := inspect(ctx, dir)
		if err != nil {
			return binaries{}, missing(dataMajor, seen, err)
		}
		return found, nil
	}
	return binaries{}, missing(dataMajor, seen, nil)
}

func (f finder) checkGiven(ctx context.Context, dir string, dataMajor int) (binaries, error) {
	found, err := inspect(ctx, dir)
	switch {
	case err != nil:
		return binaries{}, fmt.Errorf("%w: %w", ErrNoPostgres, err)
	case found.major < minMajor:
		return binaries{}, fmt.Errorf("%w: %s has version %d, at least %d is needed", ErrNoPostgres, dir, found.major, minMajor)
	case dataMajor != 0 && found.major != dataMajor:
		return binaries{}, fmt.Errorf("%w: %s has version %d, the data was made by version %d",
			ErrNoPostgres, dir, found.major, dataMajor)
	}
	return found, nil
}

// candidates lists directories of programs without duplicates, the best first.
func (f finder) candidates() []string {
	var dirs []string
	add := func(dir string) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	addGlob := func(pattern string) {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return
		}
		slices.SortFunc(matches, func(a, b string) int { return numberIn(b) - numberIn(a) })
		for _, dir := range matches {
			add(dir)
		}
	}
	if len(f.globs) > 0 {
		addGlob(f.globs[0])
	}
	if program, err := f.path("postgres"); err == nil {
		add(programDir(program))
	}
	for _, pattern := range f.globs[min(1, len(f.globs)):] {
		addGlob(pattern)
	}
	return dirs
}

// programDir follows a link on PATH to the directory where initdb is too: the link may be alone in its own directory.
func programDir(program string) string {
	if target, err := filepath.EvalSymlinks(program); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(target), "initdb")); err == nil {
			return filepath.Dir(target)
		}
	}
	return filepath.Dir(program)
}

var (
	digits        = regexp.MustCompile(`[0-9]+`)
	versionOutput = regexp.MustCompile(`^postgres \(PostgreSQL\) ([0-9]+)`)
)

// numberIn returns the first number in a path. In all patterns that is the version.
func numberIn(path string) int {
	number, err := strconv.Atoi(digits.FindString(path))
	if err != nil {
		return 0
	}
	return number
}

// inspect checks that dir has both programs and that they run here, and reads their version.
func inspect(ctx context.Context, dir string) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, fmt.Errorf("resolve %s: %w", dir, err)
	}
	found := binaries{dir: dir}
	for _, program := range []string{found.postgres(), found.initdb()} {
		if _, err := exec.LookPath(program); err != nil {
			return binaries{}, fmt.Errorf("no program at %s: %w", program, err)
		}
	}
	output, err := exec.CommandContext(ctx, found.postgres(), "--version").CombinedOutput() //nolint:gosec // the path was just looked up
	if err != nil {
		return binaries{}, fmt.Errorf("%s does not run here: %w%s", found.postgres(), err, lastLines("it says", string(output), 5))
	}
	match := versionOutput.FindSubmatch(output)
	if match == nil {
		return binaries{}, fmt.Errorf("%s is not PostgreSQL: its version reads %q", found.postgres(), output)
	}
	found.major, err = strconv.Atoi(string(match[1]))
	return found, err
}

// missing returns an error that says what was looked for, what was found instead, and how to install what is missing.
func missing(dataMajor int, seen []string, fetchErr error) error {
	text := "none in the usual places or on PATH"
	if len(seen) > 0 {
		text = "found only version " + strings.Join(seen, ", ")
	}
	advice := installLine(runtime.GOOS, dataMajor)
	if dataMajor != 0 {
		text += fmt.Sprintf(", while the data was made by version %d", dataMajor)
		advice += "; or move the data directory away to start with an empty one"
	}
	if fetchErr != nil {
		text += ", and " + fetchErr.Error()
	}
	return fmt.Errorf("%w: %s. Install it with: %s", ErrNoPostgres, text, advice)
}

// installLine returns the command that installs PostgreSQL on this system.
func installLine(goos string, major int) string {
	suffix := ""
	if major != 0 {
		suffix = "-" + strconv.Itoa(major)
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	switch {
	case goos == "darwin":
		if major == 0 {
			major = npmMajor
		}
		return fmt.Sprintf("brew install postgresql@%d", major)
	case exists("/etc/debian_version"):
		return "sudo apt-get install --no-install-recommends postgresql" + suffix
	case exists("/etc/alpine-release"):
		return "apk add postgresql" + strings.TrimPrefix(suffix, "-")
	case exists("/etc/arch-release"):
		return "sudo pacman -S postgresql"
	default:
		return "sudo dnf install postgresql-server (Fedora), or the package of this system with the PostgreSQL server"
	}
}

// majorOf returns the version that made a data directory, or 0 if there is no data: dir does not exist or is empty.
func majorOf(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err == nil {
		major, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return 0, fmt.Errorf("%s is not a data directory of PostgreSQL: its PG_VERSION reads %q", dir, text)
		}
		return major, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("read the data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the data directory: %w", err)
	}
	if len(entries) > 0 {
		return 0, fmt.Errorf("%s is neither empty nor a data directory of PostgreSQL", dir)
	}
	return 0, nil
}
