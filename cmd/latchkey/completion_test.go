package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// complete returns the candidates that the scripts get.
func complete(t *testing.T, words ...string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{completeName}, words...), nil, &out); err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(out.String()) {
		word, about, found := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !found || about == "" {
			t.Errorf("%q has no description", line)
		}
		list = append(list, word)
	}
	return list
}

// TestCompletionListsTheTable: each command, subcommand and flag is a candidate in its place.
func TestCompletionListsTheTable(t *testing.T) {
	t.Parallel()
	top, helped := complete(t, ""), complete(t, "help", "")
	for _, c := range commands() {
		if !slices.Contains(top, c.name) || !slices.Contains(helped, c.name) {
			t.Errorf("%s is missing", c.name)
		}
		if list := complete(t, c.name, "-"); !slices.Contains(list, "--help") {
			t.Errorf("%s: %v", c.name, list)
		}
		for _, sub := range c.group {
			before := []string{c.name}
			for word := range strings.FieldsSeq(sub.name) {
				if list := complete(t, append(slices.Clone(before), "")...); !slices.Contains(list, word) {
					t.Errorf("%v: %s is missing in %v", before, word, list)
				}
				before = append(before, word)
			}
			flags := complete(t, append(slices.Clone(before), "--")...)
			set, _ := sub.flagSet()
			set.VisitAll(func(f *flag.Flag) {
				if !slices.Contains(flags, "--"+f.Name) {
					t.Errorf("%v: --%s is missing in %v", before, f.Name, flags)
				}
			})
			if list := complete(t, append(before, "")...); list != nil {
				t.Errorf("%v: %v in the place of a file", before, list)
			}
		}
	}
}

func TestCompletionInPlace(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"mi":                             {"migrate"},
		"--v":                            {"--version"},
		"nothing ":                       nil,
		"migrate d":                      {"down"},
		"help users e":                   {"export"},
		"admin --addr h:1 us":            {"user"},
		"admin user --json s":            {"suspend", "sessions"},
		"users import --report ":         nil, // a file
		"users import --dry-run --rep":   {"--report"},
		"users import --nonsense x --re": nil,
		"completion ":                    {"bash", "zsh", "fish"},
		"serve ":                         nil,
	} {
		if got := complete(t, strings.Split(line, " ")...); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// TestCompletionScripts runs each script in its shell, if the machine has that shell; every machine has bash.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "latchkey")); err != nil {
		t.Fatal(err)
	}
	for shell, test := range map[string]struct{ args []string }{
		"bash": {[]string{"--norc", "-c", `source <(latchkey completion bash)
COMP_WORDS=(latchkey users ex); COMP_CWORD=2; _latchkey; echo "${COMPREPLY[@]}"`}},
		"zsh": {[]string{"-f", "-c", `compdef() { :; }; _describe() { print -l -- $found }
source <(latchkey completion zsh)
words=(latchkey users ex); CURRENT=3; _latchkey`}},
		"fish": {[]string{"--no-config", "-c", `latchkey completion fish | source; complete -C "latchkey users ex"`}},
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil && shell != "bash" {
				t.Logf("not run: this machine has no %s", shell)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, test.args...)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), asLatchkey+"=1")
			out, err := cmd.CombinedOutput()
			if word, _, _ := strings.Cut(strings.TrimSpace(string(out)), ":"); err != nil || strings.Fields(word)[0] != "export" {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
}

// TestDocsNameTheTable: each command and flag in README and docs is in the table.
func TestDocsNameTheTable(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile("(?m)(?:^|[`(;|] ?|=\\S+ |&& )latchkey ((?:help |--)?[a-z][^`#)\\n]*)")
	checked := 0
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lines.FindAllStringSubmatch(string(text), -1) {
			if regexp.MustCompile(`^(attempt counter|device token|factor seal|page token|password decoy|refresh token mac|reset link|signing key seal)$`).MatchString(m[1]) {
				continue // labels that keys are derived with
			}
			if wrong := notInTable(m[1]); wrong != "" {
				t.Errorf("%s: `latchkey %s`: %s", filepath.Base(page), m[1], wrong)
			}
			checked++
		}
	}
	if checked < 40 {
		t.Errorf("only %d command lines were found", checked)
	}
}

// notInTable returns the part of a command line that is not in the table.
func notInTable(line string) string {
	words := strings.Fields(strings.ReplaceAll(line, `\|`, "|"))
	if words[0] == "--version" || words[0] == "help" {
		return ""
	}
	c, err := findCommand(strings.TrimSuffix(words[0], ":"))
	if err != nil {
		return "there is no command " + words[0]
	}
	flags := slices.Clone(c.common)
	for _, entry := range append([]command{c}, c.group...) {
		set, _ := entry.flagSet()
		set.VisitAll(func(f *flag.Flag) { flags = append(flags, f.Name) })
	}
	for _, m := range regexp.MustCompile(`--([a-z][a-z-]*)`).FindAllStringSubmatch(line, -1) {
		if !slices.Contains(append(flags, "help"), m[1]) {
			return "there is no --" + m[1]
		}
	}
	if c.group == nil || len(words) == 1 || !regexp.MustCompile(`^[a-z]`).MatchString(words[1]) {
		return ""
	}
	for one := range strings.SplitSeq(words[1], "|") {
		known := slices.ContainsFunc(c.group, func(sub command) bool { return strings.Fields(sub.name)[0] == one })
		_, _, found := c.find(words[1:])
		if !known || !found && !strings.Contains(words[1], "|") {
			return "there is no " + c.name + " " + one
		}
	}
	return ""
}
