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

Environment variables hold all settings; ` + "`latchkey config`" + ` prints the settings in force. An empty variable counts as
unset. Secrets (🔑) can also be read from a file: append ` + "`_FILE`" + ` to the name and set that to the file's path. If a
variable begins with LATCHKEY_ and is not listed here, the log says so at start. ` + "`serve`" + ` needs the settings in bold.
` + "`dev`" + ` needs none, binds its listeners to 127.0.0.1 and turns reflection on.

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
