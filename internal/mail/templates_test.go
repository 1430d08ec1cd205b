package mail_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

// own returns an operator's reset mail in another language.
func own() map[string]string {
	return map[string]string{
		"reset.subject.txt": "Neues Passwort für {{.Product}}\n",
		"reset.txt":         "Öffne {{.Link}} binnen {{.Minutes}} Minuten.\n",
		"reset.html":        `<html lang="{{.Language}}"><p>{{.Product}}: <a href="{{.Link}}">Öffnen</a>`,
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A mail with the operator's own text and a mail without each name their language.
func TestTemplates(t *testing.T) {
	t.Parallel()
	templates, err := mail.LoadTemplates(folder(t, own()), "de")
	if err != nil {
		t.Fatal(err)
	}
	server := startSMTP(t, nil)
	box := mail.NewMailbox(0, sender(t, server, "smtp://mail.example.com"))
	known := newAccounts("ada@example.org")
	ada := uuid.New()
	known.users[ada] = "ada@example.org"
	cfg := config(newPool(t), known, box)
	cfg.ProductName, cfg.Templates = "Tea & <Cake>", templates
	outbox, _ := newOutbox(t, cfg)
	start(t, outbox)
	request(t, outbox, "ada@example.org")
	eventually(t, "the mail arrives", func() bool { return len(server.got()) == 1 })
	m := box.Messages()[0]
	if m.Subject != "Neues Passwort für Tea & <Cake>" || !strings.HasPrefix(m.Text, "Öffne https://app.example.com/reset?lang=en&token=") || !strings.Contains(m.Text, "binnen 30 Minuten") {
		t.Errorf("%q %q", m.Subject, m.Text)
	}
	if !strings.Contains(m.HTML, `<html lang="de"><p>Tea &amp; &lt;Cake&gt;: <a href="https://app.example.com/reset?lang=en&amp;token=`) {
		t.Errorf("%s", m.HTML)
	}
	if !strings.Contains(server.got()[0].data, "Content-Language: de\r\n") {
		t.Errorf("%s", server.got()[0].data)
	}
	notify(t, outbox, mail.PasswordChanged, ada)
	eventually(t, "the notice arrives", func() bool { return len(server.got()) == 2 })
	if m := box.Messages()[0]; !strings.Contains(m.HTML, `<html lang="en">`) || !strings.Contains(server.got()[1].data, "Content-Language: en\r\n") {
		t.Errorf("%s", m.HTML)
	}
}

// A template that would fail when somebody waits for a link is reported at the start, with the name of the file.
func TestTemplatesRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ file, content, want string }{
		"a misspelt name":       {"rest.txt", "x", "rest.txt belongs to no mail"},
		"an unknown kind":       {"reset.md", "x", "reset.md belongs to no mail"},
		"an unknown field":      {"reset.txt", "{{.Link}} {{.Password}}", "reset.txt"},
		"no template":           {"reset.html", "{{.Link", "reset.html"},
		"no link in plain text": {"reset.txt", "look at the HTML", "{{.Link}}"},
		"no link in HTML":       {"reset.html", "<p>none", "{{.Link}}"},
		"an empty subject":      {"reset.subject.txt", " \n", "reset.subject.txt"},
		"a subject of two":      {"reset.subject.txt", "a\nBcc: b@example.org", "reset.subject.txt"},
		"not UTF-8":             {"reset.txt", "{{.Link}} \xff", "not UTF-8"},
		"no HTML":               {"password_changed.txt", "x", "password_changed.subject.txt"},
	} {
		files := maps.Clone(own())
		files[tt.file] = tt.content
		if _, err := mail.LoadTemplates(folder(t, files), "de"); !errors.Is(err, mail.ErrTemplates) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mail.LoadTemplates(folder(t, own()), "de\r\nBcc: x"); !errors.Is(err, mail.ErrTemplates) {
		t.Errorf("a language that is none: %v", err)
	}
	if _, err := mail.LoadTemplates(filepath.Join(t.TempDir(), "missing"), "de"); !errors.Is(err, mail.ErrTemplates) {
		t.Errorf("a folder that is none: %v", err)
	}
}
