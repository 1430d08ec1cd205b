package testenv

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Callers returns the directories, relative to the module's, whose Go files outside tests and gen mention one of the
// methods. It fails the test if there are none: then the method has another name. It is for rules that imports do not
// show, such as "only internal/audit inserts events".
func Callers(t testing.TB, methods ...string) []string {
	t.Helper()
	_, own, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("testenv: the source is not known")
	}
	root := filepath.Join(filepath.Dir(own), "..", "..")
	found := map[string]bool{}
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if path != root && (name == "gen" || name == "testdata" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		ast.Inspect(file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && slices.Contains(methods, selector.Sel.Name) {
				found[filepath.ToSlash(dir)], seen[selector.Sel.Name] = true, true
			}
			return true
		})
		return err
	})
	must(t, err)
	for _, method := range methods {
		if !seen[method] {
			t.Errorf("testenv: nobody calls %s: has it another name now?", method)
		}
	}
	dirs := make([]string, 0, len(found))
	for dir := range found {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}
