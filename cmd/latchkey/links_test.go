package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinksOfPages follows each relative link of each page, also to a heading, and finds every page of docs/ in its index.
func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	const root = "../.."
	pages := markdown(t, root)
	if len(pages) < 40 {
		t.Fatalf("%d pages were found", len(pages))
	}
	indexed := map[string]bool{}
	for page, text := range pages {
		for _, link := range linksOf(text) {
			target, heading, _ := strings.Cut(link, "#")
			if target == "" {
				target = page
			} else {
				target = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, link, err)
				continue
			}
			if heading != "" && !hasHeading(pages[target], heading) {
				t.Errorf("%s links to %s: there is no such heading", page, link)
			}
			if page == filepath.Join(root, "docs", "README.md") {
				indexed[target] = true
			}
		}
	}
	for page := range pages {
		inDocs := strings.HasPrefix(page, filepath.Join(root, "docs")+string(filepath.Separator))
		if inDocs && filepath.Base(page) != "README.md" && !indexed[page] {
			t.Errorf("%s is not in docs/README.md", page)
		}
	}
}

// TestFilesOfRequests checks that the code has each `file:function` of the architecture page.
func TestFilesOfRequests(t *testing.T) {
	t.Parallel()
	const page = "../../docs/architecture.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	places := regexp.MustCompile("`([a-z/_]+\\.go):([A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	if len(places) < 20 {
		t.Fatalf("%s names %d functions", page, len(places))
	}
	for _, place := range places {
		code, err := os.ReadFile(filepath.Join("../..", place[1]))
		if err != nil {
			t.Errorf("%s names %s: %v", page, place[1], err)
			continue
		}
		if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + place[2] + `[(\[]`).Match(code) {
			t.Errorf("%s: %s has no function %s", page, place[1], place[2])
		}
	}
}

// markdown returns the text of each of our own pages, with its path as the key.
func markdown(t *testing.T, root string) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (name == "node_modules" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		pages[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// linksOf returns the relative links of a page. Text in code is not a link.
func linksOf(text string) []string {
	text = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```|`[^`\n]*`").ReplaceAllString(text, "")
	var links []string
	for _, found := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^[a-z]+:`).MatchString(found[1]) {
			links = append(links, found[1])
		}
	}
	return links
}

// hasHeading reports whether a page has a heading with this anchor, made as GitHub makes it.
func hasHeading(text, anchor string) bool {
	dropped := regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
	for _, found := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		made := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")
		if made == anchor {
			return true
		}
	}
	return false
}
