package accountpages

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
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
}

// LoadOwn reads a folder with any of texts.LANGUAGE.json, style.css, logo.svg or logo.png, header.html and footer.html. A
// file with another name is an error: it would do nothing, and its owner would not notice. Names that begin with a dot are
// ignored. Errors wrap [ErrOwn].
func LoadOwn(dir string) (Own, error) {
	own := Own{Texts: map[string]map[string]string{}}
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
	default:
		return fmt.Errorf("%w: %s is none of texts.LANGUAGE.json, style.css, logo.svg, logo.png, header.html and footer.html", ErrOwn, name)
	}
	return nil
}
