package password

import (
	"os"
	"strings"
	"testing"
)

// TestDocsListKinds: docs/import.md has the beginning of every form that Canonical stores or reads.
func TestDocsListKinds(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		for _, prefix := range k.prefixes {
			if !strings.Contains(string(docs), "`"+prefix) && prefix != "pbkdf2_sha1$" && prefix != "pbkdf2_sha512$" { // of Django, as pbkdf2_sha256$
				t.Errorf("%s is not in docs/import.md", prefix)
			}
		}
	}
}
