package hashforms

import (
	"os"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// TestDocsListForms: docs/import.md names every form that is read, every scheme and every prehash.
func TestDocsListForms(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.ReplaceAll(string(data), `\|`, "|")
	for _, f := range forms() {
		for _, begin := range f.begins {
			if f.read != nil && !strings.Contains(docs, begin) {
				t.Errorf("%s: %s is not in docs/import.md", f.name, begin)
			}
		}
		if (f.read == nil) != (f.why != "") || f.name == "" {
			t.Errorf("%s: it is read or refused with a reason, and has a name", f.name)
		}
	}
	for _, s := range schemes() {
		for _, word := range append(Schemes(), s.name) {
			if !strings.Contains(docs, "`"+word+"`") {
				t.Errorf("scheme %s is not in docs/import.md", word)
			}
		}
		for name := range s.params {
			if !strings.Contains(docs, "`"+name+"`") {
				t.Errorf("parameter %s of %s is not in docs/import.md", name, s.name)
			}
		}
		if s.of == "" {
			t.Errorf("scheme %s does not say what writes it", s.name)
		}
	}
	for _, name := range password.Prehashes() {
		if !strings.Contains(docs, "`"+name+"`") {
			t.Errorf("prehash %s is not in docs/import.md", name)
		}
	}
}
