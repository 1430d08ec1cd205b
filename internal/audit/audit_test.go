package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestOnlyWriter checks that no other package inserts events with the generated queries. Two statements have the
// events of what they do: see the comment of the package.
func TestOnlyWriter(t *testing.T) {
	t.Parallel()
	got := testenv.Callers(t, "RecordAuditEvent", "RecordRepeatedEvent", "RecordSignUpAttempt")
	if want := []string{"internal/audit"}; !slices.Equal(got, want) {
		t.Errorf("events are inserted in %q, want %q", got, want)
	}
}

// TestKinds checks that Kinds has every constant of type Kind, and that docs/operations.md explains each.
func TestKinds(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var declared []audit.Kind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Kind" {
			value, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s has no plain value", spec.Names[0])
			}
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Error(err)
			}
			declared = append(declared, audit.Kind(text))
		}
		return true
	})
	slices.Sort(declared)
	if got := audit.Kinds(); !slices.Equal(got, declared) {
		t.Errorf("Kinds has %q, the constants are %q: add the missing ones in kinds.go", got, declared)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range declared {
		if !strings.Contains(string(page), "`"+string(kind)+"`") {
			t.Errorf("docs/operations.md does not name %s", kind)
		}
	}
}
