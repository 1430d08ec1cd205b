package mail

import (
	"bytes"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode/utf8"
)

// ErrTemplates means that an operator's templates cannot be used. Its text says which file, and why.
var ErrTemplates = errors.New("mail: unusable templates")

// builtInLanguage is the language of the templates in this package.
const builtInLanguage = "en"

// Templates are an operator's own texts for mails: text/template for NAME.subject.txt and NAME.txt, html/template for
// NAME.html. Mails without such files have the texts of this package.
type Templates struct {
	language string
	own      map[string]letterTemplates
}

type letterTemplates struct {
	subject, text *texttemplate.Template
	html          *htmltemplate.Template
}

// mailNames returns the names of all mails: "reset" and the notices.
func mailNames() []string {
	files, _ := fs.Glob(templateFiles, "templates/*.txt") // the pattern is valid
	var names []string
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".txt"); name != "test" {
			names = append(names, name)
		}
	}
	return names
}

// LoadTemplates reads a folder, and tries every template in it. language is the BCP 47 tag of their language. Errors
// wrap [ErrTemplates].
func LoadTemplates(dir, language string) (*Templates, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplates, err)
	}
	if language == "" || strings.Trim(language, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return nil, fmt.Errorf("%w: the language is no tag such as en or pt-BR", ErrTemplates)
	}
	t := &Templates{language: language, own: map[string]letterTemplates{}}
	known := mailNames()
	for _, entry := range entries {
		name, kind, _ := strings.Cut(entry.Name(), ".")
		switch {
		case strings.HasPrefix(entry.Name(), ".") || entry.IsDir(): // made by an editor or a volume
			continue
		case !slices.Contains(known, name) || !slices.Contains([]string{"subject.txt", "txt", "html"}, kind):
			return nil, fmt.Errorf("%w: %s belongs to no mail: the names are %s, each with .subject.txt, .txt and .html", ErrTemplates, entry.Name(), strings.Join(known, ", "))
		}
		if _, done := t.own[name]; done {
			continue
		}
		if t.own[name], err = loadLetter(dir, name); err != nil {
			return nil, err
		}
		if err := t.try(name); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// loadLetter reads the three files of a mail. A mail program that does not show HTML shows the plain text.
func loadLetter(dir, name string) (l letterTemplates, err error) {
	read := func(kind string) string {
		content, readErr := os.ReadFile(filepath.Join(dir, name+kind)) //nolint:gosec // G304: the operator names the folder
		if readErr == nil && !utf8.Valid(content) {
			readErr = fmt.Errorf("%s%s is not UTF-8", name, kind)
		}
		if readErr != nil && err == nil {
			err = fmt.Errorf("%w: %w", ErrTemplates, readErr)
		}
		return string(content)
	}
	subject, text, html := read(".subject.txt"), read(".txt"), read(".html")
	if err != nil {
		return l, err
	}
	var failures [3]error
	l.subject, failures[0] = texttemplate.New(name + ".subject.txt").Parse(strings.TrimSpace(subject))
	l.text, failures[1] = texttemplate.New(name + ".txt").Parse(text)
	l.html, failures[2] = htmltemplate.New(name + ".html").Parse(html)
	if err := errors.Join(failures[:]...); err != nil {
		return l, fmt.Errorf("%w: %w", ErrTemplates, err)
	}
	return l, nil
}

// try writes a mail with invented values, so that an error in a template is reported at the start and not when somebody
// waits for a link.
func (t *Templates) try(name string) error {
	const link = "https://app.example.com/reset?token=tried"
	v := view{Product: "Example", Link: link, Valid: "30 minutes", Minutes: 30, When: spellTime(time.Time{}), Language: t.language}
	subject, text, html, err := t.own[name].write(v)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrTemplates, err)
	case subject == "" || hasControl(subject):
		return fmt.Errorf("%w: %s.subject.txt must be one line of text", ErrTemplates, name)
	case strings.TrimSpace(text) == "" || strings.TrimSpace(html) == "":
		return fmt.Errorf("%w: %s.txt or %s.html is empty", ErrTemplates, name, name)
	case name == "reset" && (!strings.Contains(text, link) || !strings.Contains(html, link)):
		return fmt.Errorf("%w: reset.txt and reset.html must both have {{.Link}}", ErrTemplates)
	}
	return nil
}

func (l letterTemplates) write(v view) (subject, text, html string, err error) {
	var out [3]bytes.Buffer
	if err := l.subject.Execute(&out[0], v); err != nil {
		return "", "", "", err
	}
	v.Subject = out[0].String()
	if err := l.text.Execute(&out[1], v); err != nil {
		return "", "", "", err
	}
	if err := l.html.Execute(&out[2], forHTML(v)); err != nil {
		return "", "", "", err
	}
	return v.Subject, out[1].String(), out[2].String(), nil
}
