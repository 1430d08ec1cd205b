package mail

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"strconv"
	texttemplate "text/template"
	"time"

	"github.com/latchkey-auth/latchkey/internal/address"
)

//go:embed templates
var templateFiles embed.FS

// composer writes the mails. They hold no text that the person who signs up has chosen. With a name from the sign-up in
// them, anybody could send a text of their own to anybody, under the good reputation of this service.
type composer struct {
	product string
	pages   pages
	valid   string
	text    *texttemplate.Template
	html    *htmltemplate.Template
	own     *Templates // nil if there are none
	minutes int
}

// view is the data of the templates.
type view struct {
	Product string
	Subject string
	Link    string
	// Code is six digits. Mails that have none, and those in which it is not shown, have "".
	Code  string
	Valid string
	When  string
	// Until is the time of a deletion, or "", and DeleteTime the same (UTC), for templates in other languages.
	Until      string
	DeleteTime time.Time
	// Minutes is Valid and Time is When (UTC), for templates in other languages. Language is the tag of their language.
	Minutes  int
	Time     time.Time
	Language string
}

// htmlView allows links with the scheme of an app, which html/template would remove.
type htmlView struct {
	view
	Link htmltemplate.URL
}

//nolint:gosec // G203: ParseResetURL has checked the scheme
func forHTML(v view) htmlView { return htmlView{view: v, Link: htmltemplate.URL(v.Link)} }

func newComposer(product string, to pages, ttl time.Duration, own *Templates) (*composer, error) {
	text, err := texttemplate.ParseFS(templateFiles, "templates/*.txt")
	if err != nil {
		return nil, fmt.Errorf("mail: text templates: %w", err)
	}
	html, err := htmltemplate.ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("mail: HTML templates: %w", err)
	}
	return &composer{product: product, pages: to, valid: spell(ttl), text: text, html: html, own: own, minutes: int(ttl / time.Minute)}, nil
}

func (c *composer) reset(to, token string, now time.Time) (Message, error) {
	return c.compose("reset", to, now, view{
		Subject: "Reset your password for " + c.product,
		Link:    withToken(c.pages.reset, token),
		Valid:   c.valid,
		Minutes: c.minutes,
	})
}

// TestMessage returns the mail with which an operator tests that mails arrive.
func TestMessage(product, to string, now time.Time) (Message, error) {
	letters, err := newComposer(product, pages{}, 0, nil)
	if err != nil {
		return Message{}, err
	}
	return letters.compose("test", to, now, view{Subject: "A test of the mails of " + product, When: spellTime(now)})
}

// notice returns false for a kind that only a newer version knows.
func (c *composer) notice(notice noticeArgs, to string, now time.Time) (Message, bool, error) {
	subject := notice.Notice.subject(c.product)
	if subject == "" {
		return Message{}, false, nil
	}
	v := view{Subject: subject, When: spellTime(notice.HappenedAt), Time: notice.HappenedAt.UTC()}
	if !notice.Until.IsZero() {
		v.Until, v.DeleteTime = spellTime(notice.Until), notice.Until.UTC()
	}
	m, err := c.compose(string(notice.Notice), to, now, v)
	return m, true, err
}

func (c *composer) compose(name, to string, now time.Time, v view) (Message, error) {
	v.Product = c.product
	if c.own != nil {
		if l, ok := c.own.own[name]; ok {
			v.Language = c.own.language
			subject, text, html, err := l.write(v)
			if err != nil {
				return Message{}, fmt.Errorf("mail: own template of %s: %w", name, err)
			}
			return Message{To: address.Mailbox(to), Subject: subject, Text: text, HTML: html, Time: now, Language: v.Language}, nil
		}
	}
	v.Language = builtInLanguage
	var text, html bytes.Buffer
	if err := c.text.ExecuteTemplate(&text, name+".txt", v); err != nil {
		return Message{}, fmt.Errorf("mail: text of %s: %w", name, err)
	}
	if err := c.html.ExecuteTemplate(&html, name+".html", forHTML(v)); err != nil {
		return Message{}, fmt.Errorf("mail: HTML of %s: %w", name, err)
	}
	return Message{To: address.Mailbox(to), Subject: v.Subject, Text: text.String(), HTML: html.String(), Time: now, Language: v.Language}, nil
}

func spellTime(t time.Time) string { return t.UTC().Format("2 January 2006 at 15:04 UTC") }

// spell writes a duration for people. It rounds down, so that no link promises to live longer than it does.
func spell(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(d/(24*time.Hour), "day")
	case d >= time.Hour && d%time.Hour < time.Minute:
		return count(d/time.Hour, "hour")
	case d >= time.Hour:
		return count(d/time.Hour, "hour") + " and " + count(d%time.Hour/time.Minute, "minute")
	case d >= time.Minute:
		return count(d/time.Minute, "minute")
	}
	return count(d/time.Second, "second")
}

func count(n time.Duration, unit string) string {
	if n != 1 {
		unit += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + unit
}
