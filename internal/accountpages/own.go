package accountpages

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// maxOwn bounds each file of the operator's, so that a page stays small.
const maxOwn = 256 << 10

// Own is what an operator has put into the folder of the pages.
type Own struct {
	// Texts by language, then by name.
	Texts map[string]map[string]string
	// Style is CSS that is loaded after ours.
	Style []byte
	// Logo is an image, LogoType its media type.
	Logo     []byte
	LogoType string
	// Header and Footer are HTML above and below the content of each page, as the operator wrote it.
	Header, Footer template.HTML
	// Templates are Go templates in the place of ours, by the name of the file: NAME.html for a page, or layout.html.
	Templates map[string]string
}

// layoutFile is the template of what all pages share.
const layoutFile = "layout.html"

// LoadOwn reads a folder with any of texts.LANGUAGE.json, style.css, logo.svg or logo.png, header.html, footer.html, and
// templates by the names of ours. A file with another name is an error: it would do nothing, and its owner would not
// notice. Names that begin with a dot are ignored. Errors wrap [ErrOwn].
func LoadOwn(dir string) (Own, error) {
	own := Own{Texts: map[string]map[string]string{}, Templates: map[string]string{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return own, fmt.Errorf("%w: %s cannot be read", ErrOwn, dir)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") { // of editors, and of Kubernetes' volumes
			continue
		}
		if err := own.read(dir, entry.Name()); err != nil {
			return own, err
		}
	}
	return own, nil
}

func (o *Own) read(dir, name string) error {
	body, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // G304: the operator names the folder
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s may not be read", ErrOwn, name)
	case err != nil:
		return fmt.Errorf("%w: %s cannot be read", ErrOwn, name)
	case len(body) > maxOwn:
		return fmt.Errorf("%w: %s has more than 256 KiB", ErrOwn, name)
	}
	tag, isTexts := strings.CutPrefix(name, "texts.")
	tag, isJSON := strings.CutSuffix(tag, ".json")
	switch {
	case isTexts && isJSON:
		var all map[string]string
		if err := json.Unmarshal(body, &all); err != nil {
			return fmt.Errorf("%w: %s is not a JSON object of texts: %w", ErrOwn, name, err)
		}
		o.Texts[tag] = all
	case name == "style.css":
		o.Style = body
	case name == "logo.svg", name == "logo.png":
		if o.Logo != nil {
			return fmt.Errorf("%w: there are logo.svg and logo.png", ErrOwn)
		}
		o.Logo, o.LogoType = body, map[string]string{"logo.svg": "image/svg+xml", "logo.png": "image/png"}[name]
	case name == "header.html":
		o.Header = template.HTML(body) //nolint:gosec // G203: the operator's own HTML; the policy of the page runs no script in it
	case name == "footer.html":
		o.Footer = template.HTML(body) //nolint:gosec // G203: likewise
	case name == layoutFile, slices.Contains(names(), strings.TrimSuffix(name, ".html")) && strings.HasSuffix(name, ".html"):
		o.Templates[name] = string(body)
	default:
		return fmt.Errorf("%w: %s is none of texts.LANGUAGE.json, style.css, logo.svg, logo.png, header.html, footer.html, %s and %s.html",
			ErrOwn, name, layoutFile, strings.Join(names(), ".html, "))
	}
	return nil
}

// hooks matches what the script looks for in a page, and what a label or a description is tied to.
var hooks = regexp.MustCompile(`[\s"](data-[a-z-]+(?:="[^"{}]*")?|(?:id|name)="[^"{}]*"|src="[^"]*/pages\.js")`)

// source returns the text of a template, the operator's if there is one. It must have all that the script looks for: a page
// on which it finds less would stop in the middle of a login.
func (o Own) source(file string) (string, error) {
	ours, err := files.ReadFile("templates/" + file)
	if err != nil {
		return "", err
	}
	own, replaced := o.Templates[file]
	if !replaced {
		return string(ours), nil
	}
	has := map[string]bool{}
	for _, hook := range hooks.FindAllStringSubmatch(own, -1) {
		has[hook[1]] = true
	}
	for _, hook := range hooks.FindAllStringSubmatch(string(ours), -1) {
		if !has[hook[1]] {
			return "", fmt.Errorf("%w: %s has no %s, which the script of the page or a label needs; hide by style.css what is not to be seen", ErrOwn, file, hook[1])
		}
	}
	return own, nil
}
