package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Go's linker drops methods that nobody calls, unless the program looks one up by a name that is known only when it
// runs. text/template does that once, for {{.Field}}, and so keeps every exported method of every type: go-redis alone
// has thousands, and they were a quarter of the binary. The templates of mails, which an operator may replace, can only
// reach the methods of the few types in templateTypes. So the shipped binary is built with a text/template that looks
// up the names of those, each written out, which the linker can follow.
const (
	lookUp      = "ptr.MethodByName(fieldName)"
	lookUpKnown = "latchkeyMethod(ptr, fieldName)"
)

// templateTypes returns the types with methods that a mail's template can reach. A test of internal/mail compares.
func templateTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Month](),
		reflect.TypeFor[time.Weekday](), reflect.TypeFor[*time.Location](),
	}
}

// writeOverlay writes the changed file into dir, and returns the name of a file for `go build -overlay`.
func writeOverlay(goRoot, dir string) (string, error) {
	original := filepath.Join(goRoot, "src", "text", "template", "exec.go")
	source, err := os.ReadFile(original) //nolint:gosec // G304: a file of the Go that builds
	if err != nil {
		return "", err
	}
	changed, err := withKnownMethods(string(source))
	if err != nil {
		return "", fmt.Errorf("%s: %w", original, err)
	}
	replacement := filepath.Join(dir, "exec.go")
	if err := os.WriteFile(replacement, []byte(changed), 0o600); err != nil { //nolint:gosec // G703: a name in a folder that was just made
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, overlay, 0o600)
}

// withKnownMethods changes the source of text/template/exec.go. It returns an error if that does not have the one look-up
// that it is about: then Go has changed, and somebody must look.
func withKnownMethods(source string) (string, error) {
	if n := strings.Count(source, lookUp); n != 1 {
		return "", fmt.Errorf("%q occurs %d times instead of once", lookUp, n)
	}
	names := map[string]bool{}
	for _, t := range templateTypes() {
		for method := range t.Methods() {
			names[method.Name] = true
		}
	}
	var table strings.Builder
	table.WriteString("\nfunc latchkeyMethod(v reflect.Value, name string) reflect.Value {\n\tswitch name {\n")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&table, "\tcase %q:\n\t\treturn v.MethodByName(%q)\n", name, name)
	}
	table.WriteString("\t}\n\treturn reflect.Value{}\n}\n")
	return strings.Replace(source, lookUp, lookUpKnown, 1) + table.String(), nil
}
