package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const page = "../../docs/configuration.md"

var update = flag.Bool("update", false, "write docs/configuration.md again") //nolint:gochecknoglobals // how package testing takes flags

// TestConfigurationPage keeps docs/configuration.md what the struct says. To write it
// again: go test ./internal/config -run TestConfigurationPage -update
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# Configuration

Everything is set by environment variables; ` + "`latchkey config`" + ` prints what is in force. An empty variable is an unset
one. Secrets (🔑) can also be read from a file: set the name with ` + "`_FILE`" + ` appended to its path. Variables that begin
with LATCHKEY_ and are not listed here are told in the log at start. ` + "`serve`" + ` needs those in bold; ` + "`dev`" + ` needs none, binds
its listeners to 127.0.0.1 and has reflection on.

| variable | default | value | meaning |
|---|---|---|---|
`)
	for _, f := range fields() {
		name := "`" + f.variable() + "`"
		if f.tag("need") == string(Serve) {
			name = "**" + name + "**"
		}
		if f.tag("secret") != "" {
			name += " 🔑"
		}
		standard := f.tag("envDefault")
		if standard != "" {
			standard = "`" + standard + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s, such as `%s` | %s |\n", name, standard, f.wanted(), f.tag("example"), f.tag("doc"))
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the settings are (%v): write it again as said above", page, err)
	}
}
