package legacy_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRemoval deletes the tree of the older backends and the code that wires it, and builds the rest, which must not
// need it. Then it runs tests of sign-up, login, refresh, logout and validation on that build. docs/legacy-removal.md
// lists the other things that a removal deletes.
func TestRemoval(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	list := removal(t, root)
	binary := filepath.Join(t.TempDir(), "latchkey")
	// -vet=off: vet has checked these packages before, and does not read an overlay.
	for _, args := range [][]string{
		{"build", "-overlay", list, "-o", binary, "./cmd/latchkey"},
		{"test", "-overlay", list, "-vet=off", "-run", "^(TestSignUp|TestLogin|TestRefresh|TestLogout|TestValidateTellsWhy)$", "./server"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	usage, err := exec.CommandContext(t.Context(), binary, "help").CombinedOutput()
	if err != nil || !strings.Contains(string(usage), "\n  serve ") || strings.Contains(string(usage), "takeover") {
		t.Errorf("the commands that are left: %v\n%s", err, usage)
	}
}

// removal writes an overlay for go build and returns its file: the Go files of the tree are deleted, and the files that
// wire it are replaced.
func removal(t *testing.T, root string) string {
	t.Helper()
	testdata := filepath.Join(root, "internal", "legacy", "testdata")
	replace := map[string]string{filepath.Join(root, "internal", "app", "older.go"): filepath.Join(testdata, "older.go")}
	err := filepath.WalkDir(filepath.Join(root, "internal", "legacy"), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == testdata:
			return fs.SkipDir
		case !entry.IsDir() && filepath.Ext(path) == ".go":
			replace[path] = ""
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	commands, err := filepath.Glob(filepath.Join(root, "cmd", "latchkey", "takeover*.go"))
	if err != nil || len(commands) == 0 || len(replace) < 10 {
		t.Fatalf("%d files of the tree and %d of its command, %v: have they moved?", len(replace), len(commands), err)
	}
	for _, path := range commands {
		replace[path] = ""
	}
	replace[filepath.Join(root, "cmd", "latchkey", "takeover.go")] = filepath.Join(testdata, "takeover.go")
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}
