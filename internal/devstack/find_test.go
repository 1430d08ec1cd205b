package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakePostgres makes a directory of programs that claim a version.
func fakePostgres(t *testing.T, dir string, version string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %s'\n", version)
	for _, name := range []string{"postgres", "initdb"} {
		writeProgram(t, filepath.Join(dir, name), script)
	}
	return dir
}

// writeProgram lets a shell write the file. If this process had it open for writing while another test forks, the
// program could not be run ("text file busy").
func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	p, err := command{
		path: "/bin/sh", args: []string{"-c", `printf '%s' "$1" > "$2" && chmod 755 "$2"`, "sh", script, path}, dir: "/",
	}.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.waitErr != nil {
		t.Fatal(p.waitErr)
	}
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nine := fakePostgres(t, filepath.Join(dir, "lib", "9.6", "bin"), "9.6.24")
	fifteen := fakePostgres(t, filepath.Join(dir, "lib", "15", "bin"), "15.18 (Debian 15.18-0+deb12u1)")
	sixteen := fakePostgres(t, filepath.Join(dir, "path"), "16.2")
	eighteen := fakePostgres(t, filepath.Join(dir, "brew", "postgresql@18", "bin"), "18beta1")
	npm := fakePostgres(t, filepath.Join(dir, "npm"), npmVersion[:5])
	broken := filepath.Join(dir, "broken")
	if err := os.MkdirAll(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	writeProgram(t, filepath.Join(broken, "postgres"), "#!/bin/sh\nexit 1\n")
	// A link on PATH may be alone in its directory, as on systems that link single programs.
	linked := filepath.Join(dir, "linked")
	if err := os.Mkdir(linked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(sixteen, "postgres"), filepath.Join(linked, "postgres")); err != nil {
		t.Fatal(err)
	}

	lib, brew := filepath.Join(dir, "lib", "*", "bin"), filepath.Join(dir, "brew", "postgresql@*", "bin")
	for name, test := range map[string]struct {
		globs []string
		path  string
		given string
		major int
		want  string // directory, or "" for ErrNoPostgres
		says  string
	}{
		"highest version first":           {globs: []string{lib, brew}, path: sixteen, want: fifteen},
		"path before other places":        {globs: []string{dir + "/no", brew}, path: sixteen, want: sixteen},
		"other places":                    {globs: []string{dir + "/no", brew}, want: eighteen},
		"link on path":                    {path: linked, want: sixteen},
		"the data's version":              {globs: []string{lib, brew}, path: sixteen, major: 18, want: eighteen},
		"broken ones are passed over":     {path: broken, want: npm},
		"old ones are passed over":        {globs: []string{filepath.Join(dir, "lib", "9*", "bin")}, want: npm},
		"npm for data that it made":       {globs: []string{lib}, major: npmMajor, want: npm},
		"npm has only one version":        {globs: []string{lib}, major: 14, says: "data was made by version 14"},
		"a given one":                     {globs: []string{lib}, given: sixteen, want: sixteen},
		"a given one is not passed over":  {globs: []string{lib}, given: broken, says: "no program at"},
		"a given one that is too old":     {globs: []string{lib}, given: nine, says: "at least 14"},
		"a given one of another version":  {globs: []string{lib}, given: sixteen, major: 15, says: "made by version 15"},
		"others that were found are told": {globs: []string{lib}, major: 14, says: "15 in " + fifteen},
		"how to install":                  {major: 14, says: "Install it with: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where := finder{
				globs: test.globs,
				path: func(program string) (string, error) {
					if test.path == "" {
						return "", os.ErrNotExist
					}
					return filepath.Join(test.path, program), nil
				},
				fetch: func(context.Context) (string, error) { return npm, nil },
			}
			got, err := where.find(t.Context(), test.given, test.major)
			if test.want == "" {
				if !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, %v, want an error with %q", got, err, test.says)
				}
				return
			}
			if err != nil || got.dir != test.want {
				t.Errorf("got %s, %v, want %s", got.dir, err, test.want)
			}
		})
	}
}

func TestFindSaysWhyFetchingFailed(t *testing.T) {
	t.Parallel()
	where := finder{
		path:  func(string) (string, error) { return "", os.ErrNotExist },
		fetch: func(context.Context) (string, error) { return "", errors.New("the network is down") },
	}
	_, err := where.find(t.Context(), "", 0)
	if !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), "the network is down. Install it with: ") {
		t.Errorf("got %v", err)
	}
}

func TestInstallLine(t *testing.T) {
	t.Parallel()
	if got := installLine("darwin", 0); got != "brew install postgresql@17" {
		t.Errorf("macOS: %s", got)
	}
	if got := installLine("darwin", 15); got != "brew install postgresql@15" {
		t.Errorf("macOS with data: %s", got)
	}
	if got := installLine("linux", 0); !strings.Contains(got, "postgresql") {
		t.Errorf("this system: %s", got)
	}
}

func TestCandidatesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, dir := range systemFinder().candidates() {
		if seen[dir] {
			t.Errorf("%s is looked at twice", dir)
		}
		seen[dir] = true
	}
}
