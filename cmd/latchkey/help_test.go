package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestHelp asks every command and subcommand for help, in an environment whose settings
// are wrong and secret: none of it is read, nothing is done, and the exit code is 0.
func TestHelp(t *testing.T) {
	t.Parallel()
	environ := []string{
		"LATCHKEY_GRPC_ADDR=nowhere", "LATCHKEY_SECRET_KEY=hunter2secret", "LATCHKEY_ADMIN_KEY=hunter2secret",
		"LATCHKEY_DATABASE_URL=postgres://u:hunter2secret@h:port/db", "LATCHKEY_REDIS_URL=redis://:hunter2secret@h:port",
		"LATCHKEY_SMTP_URL=http://u:hunter2secret@h", "LATCHKEY_LEGACY_HS256_SECRET=hunter2secret",
	}
	subcommands := map[string][]string{
		"migrate":  {"up", "down", "status"},
		"keys":     {"list", "rotate", "revoke", "list --json", "rotate --now"},
		"users":    {"import", "export", "import --dry-run"},
		"takeover": {"check", "apply"},
	}
	for _, c := range adminCommands() {
		subcommands["admin"] = append(subcommands["admin"], c.words)
	}
	var lines [][]string
	for _, c := range commands() {
		for _, sub := range append([]string{""}, subcommands[c.name]...) {
			words := append([]string{c.name}, strings.Fields(sub)...)
			for _, help := range []string{"-h", "--help", "-help", "help"} {
				if help != "help" || !strings.Contains(sub, "--") {
					lines = append(lines, append(slices.Clone(words), help))
				}
			}
		}
		lines = append(lines, []string{"help", c.name}, []string{"--help", c.name}, []string{c.name, "-h", "more", "--words"})
	}
	for _, args := range lines {
		var out bytes.Buffer
		err := run(t.Context(), args, environ, &out)
		name := args[0]
		if isHelp(name) {
			name = args[1]
		}
		if err != nil || !strings.HasPrefix(out.String(), "usage: latchkey "+name) || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%v: %v, printed %q", args, err, out.String())
		}
	}
}

// TestHelpIsNotEverywhere: what follows "--" is no flag, and behind a flag "help" is its
// value or a file.
func TestHelpIsNotEverywhere(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"":                              false,
		"import -- -h":                  false,
		"import --report help users":    false,
		"import --format csv help":      false,
		"user get ada@example.com -h":   true,
		"import help":                   true,
		"list --json --help":            true,
		"import helpers.csv":            false,
		"user get help@example.com":     false,
		"--addr 127.0.0.1:1 user ls -h": true,
	} {
		if got := wantsHelp(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// TestVersion: both spellings print the same.
func TestVersion(t *testing.T) {
	t.Parallel()
	var word, flag bytes.Buffer
	for out, arg := range map[*bytes.Buffer]string{&word: "version", &flag: "--version"} {
		if err := run(t.Context(), []string{arg}, nil, out); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if !strings.HasPrefix(word.String(), "latchkey ") || flag.String() != word.String() {
		t.Errorf("%q and %q", word.String(), flag.String())
	}
	for _, args := range [][]string{{"--version", "x"}, {"-v"}, {"help", "nothing"}} {
		if err := run(t.Context(), args, nil, &word); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}
