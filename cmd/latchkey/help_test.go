package main

import (
	"bytes"
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestHelp asks every command and subcommand for help, in an environment whose settings are wrong and secret: none of
// them is read, nothing is done, and the exit code is 0.
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
	for _, c := range commands() {
		for _, sub := range c.group {
			if !slices.Contains(subcommands[c.name], sub.name) {
				subcommands[c.name] = append(subcommands[c.name], sub.name)
			}
		}
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
		name, _, _ := strings.Cut(strings.Join(args, " "), " -") // the words of the command
		name = strings.TrimSuffix(name, " help")
		if isHelp(args[0]) {
			name = args[1]
		}
		if err != nil || !strings.HasPrefix(out.String(), "usage: latchkey "+name) || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%v: %v, printed %q", args, err, out.String())
		}
	}
}

// TestHelpOfSubcommand: the help of a subcommand begins with its own usage and shows each of
// its flags, wherever help is asked for.
func TestHelpOfSubcommand(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		for _, sub := range c.group {
			words := strings.Fields(c.name + " " + sub.name)
			for _, args := range [][]string{append(slices.Clone(words), "-h"), append([]string{"help"}, words...)} {
				var out bytes.Buffer
				err := run(t.Context(), args, nil, &out)
				if text := out.String(); err != nil || !strings.HasPrefix(text, "usage: "+sub.line(c.name)+"\n\n"+sub.about+"\n") {
					t.Errorf("%v: %v, printed %q", args, err, text)
				}
				set, _ := sub.flagSet()
				set.VisitAll(func(f *flag.Flag) {
					if _, text := flag.UnquoteUsage(f); text == "" || !strings.Contains(out.String(), "\n  --"+f.Name) {
						t.Errorf("%v: --%s is not described", args, f.Name)
					}
				})
			}
		}
	}
	for line, want := range map[string]string{
		"admin --addr 127.0.0.1:1 user list -h": "usage: latchkey admin user list",
		"admin --help user suspend":             "usage: latchkey admin user suspend",
		"help migrate down -- --yes":            "usage: latchkey migrate down",
		"help keys nothing":                     "usage: latchkey keys list [--json]\n       latchkey keys rotate",
		"users --help":                          "usage: latchkey users import",
	} {
		var out bytes.Buffer
		if err := run(t.Context(), strings.Fields(line), nil, &out); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %v, printed %q", line, err, out.String())
		}
	}
}

// TestCommandTable: every entry describes itself, can be run in exactly one way, and shows its flags, and no others, in
// its usage line.
func TestCommandTable(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`--([a-z-]+)`)
	for _, c := range commands() {
		for _, entry := range append([]command{c}, c.group...) {
			ways := 0
			for _, set := range []bool{entry.run != nil, entry.flags != nil, entry.group != nil} {
				if set {
					ways++
				}
			}
			if entry.name == "" || entry.about == "" || strings.Contains(entry.about, "\n") || ways != 1 {
				t.Errorf("%s %s: about %q, %d ways to run", c.name, entry.name, entry.about, ways)
			}
			var shown, want []string
			for _, m := range named.FindAllStringSubmatch(entry.usage, -1) {
				shown = append(shown, m[1])
			}
			set, _ := entry.flagSet()
			set.VisitAll(func(f *flag.Flag) {
				if !slices.Contains(c.common, f.Name) {
					want = append(want, f.Name)
				}
			})
			slices.Sort(shown)
			if !slices.Equal(shown, want) {
				t.Errorf("%s %s: usage shows %v, flags are %v", c.name, entry.name, shown, want)
			}
		}
		if c.group == nil && c.more == "" || !strings.Contains(c.more, "Exit codes: ") && c.name != "version" {
			t.Errorf("%s: help %q", c.name, c.more)
		}
	}
}

// TestFlagsOfGroups: flags can come before, between and after the words, with one dash or
// two; a command without flags takes its arguments as they are.
func TestFlagsOfGroups(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"keys revoke -Ab3_kid":                "LATCHKEY_DATABASE_URL is not set", // an identifier can begin with "-"
		"keys list -json":                     "LATCHKEY_DATABASE_URL is not set",
		"keys --json list":                    "LATCHKEY_DATABASE_URL is not set",
		"keys rotate --json":                  "latchkey keys rotate takes no --json",
		"users import -dry-run=true - -json":  "LATCHKEY_DATABASE_URL is not set",
		"users import --json=maybe -":         `invalid value "maybe" for --json`,
		"users export --dry-run":              "latchkey users export takes no --dry-run",
		"takeover apply --holder me":          `invalid value "me" for --holder`,
		"migrate up --yes":                    "usage: latchkey migrate up",
		"migrate down --yes x":                "usage: latchkey migrate up",
		"serve -- x":                          `takes no arguments, but there is "--"`,
		"admin -addr h:1 user -json get":      "takes one account",
		"completion":                          "usage: latchkey completion bash",
		"completion tcsh":                     `there is no command "tcsh"`,
		"completion bash -x":                  `unknown argument "-x"`,
		"mail test a@example.org b@example.o": "usage: latchkey mail test ADDRESS",
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(line), nil, &out)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", line, err, out.String())
		}
	}
}

// TestHelpIsNotEverywhere: a word after "--" is not a flag, and after a flag "help" is its value or a file.
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
