package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverlay changes the text/template of the Go that runs the test: a new Go that this does not fit is noticed here.
func TestOverlay(t *testing.T) {
	t.Parallel()
	root, err := goRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, err := writeOverlay(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &overlay); err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(overlay.Replace[filepath.Join(root, "src", "text", "template", "exec.go")])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{lookUpKnown, `return v.MethodByName("Format")`, `return v.MethodByName("String")`} {
		if !strings.Contains(string(changed), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(string(changed), lookUp) {
		t.Error("the look-up by a name that is not known is still there")
	}
}

// TestOverlayNotUnderstood: without the one look-up nothing is built.
func TestOverlayNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"", lookUp + lookUp} {
		if _, err := withKnownMethods(source); err == nil {
			t.Errorf("%q is accepted", source)
		}
	}
}

// TestUsage: no file is written where none is named, and what is built has a bound.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"-o", "x", "y"}, {"-most", "x", "-o", "y"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// TestTemplateTypes: the list is the one that internal/mail finds in its templates' data.
func TestTemplateTypes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../mail/internal_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range templateTypes() {
		if !strings.Contains(string(text), `"`+typ.String()+`"`) {
			t.Errorf("the test of internal/mail does not list %s", typ)
		}
	}
	if got := strings.Count(string(text), `"time.`) + strings.Count(string(text), `"*time.`); got != len(templateTypes()) {
		t.Errorf("the test of internal/mail lists %d types, and the overlay has %d", got, len(templateTypes()))
	}
}
