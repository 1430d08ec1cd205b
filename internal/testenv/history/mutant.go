//go:build linux

package history

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// edit replaces a text of the source. The old text must occur exactly once: if somebody moves it, the test fails and
// shows that it depends on the text.
type edit struct{ file, from, to string }

// overlay writes the edited files, and returns the name of the file for `go build -overlay`. The source itself is not
// changed.
func overlay(t testing.TB, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	texts := map[string]string{}
	for _, e := range edits {
		name := filepath.Join(root, e.file)
		text, edited := texts[name]
		if !edited {
			read, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = string(read)
		}
		if n := strings.Count(text, e.from); n != 1 {
			t.Fatalf("%s has this %d times, not once: it was moved, so this test must look for it anew:\n%s", e.file, n, e.from)
		}
		texts[name] = strings.Replace(text, e.from, e.to, 1)
	}
	replace := map[string]string{}
	for name, text := range texts {
		replace[name] = filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(name, root+"/"), "/", "_"))
		write(t, replace[name], []byte(text))
	}
	listed, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	write(t, list, listed)
	return list
}

func write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
