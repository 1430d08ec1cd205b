package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestASVSPage keeps docs/asvs.md complete: it has each requirement of the chapters once, with an answer, and every
// file and test in it exists.
func TestASVSPage(t *testing.T) {
	t.Parallel()
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "asvs.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+\.\d+\.\d+) \| [123] \| \S.* \| (?:\*\*(?:met|partly|not met)\*\*|not applicable).* \|$`).FindAllSubmatch(text, -1) {
		got = append(got, string(row[1]))
	}
	for section, requirements := range map[string]int{
		"6.1": 3, "6.2": 12, "6.3": 8, "6.4": 6, "6.5": 8, "6.6": 4, "6.7": 2, "6.8": 4,
		"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2, "9.1": 3, "9.2": 4,
	} {
		for i := range requirements {
			want = append(want, fmt.Sprintf("%s.%d", section, i+1))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("requirements with an answer: %v\nwant %v", got, want)
	}
	names := regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(names) < 50 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if !hasTest(t, filepath.Join(root, string(name[1])), string(name[2])) {
			t.Errorf("there is no test %s.%s", name[1], name[2])
		}
	}
	for _, name := range regexp.MustCompile("`([\\w./-]+\\.(?:go|md|proto|sql))`").FindAllSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, string(name[1]))); err != nil {
			t.Errorf("%s: %v", name[1], err)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func ` + name + `\(`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if declared.Match(text) {
			return true
		}
	}
	return false
}
