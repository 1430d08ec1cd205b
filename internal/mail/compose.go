package mail

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/latchkey-auth/latchkey/internal/address"
)

//go:embed templates
var templateFiles embed.FS

// ParseResetURL checks the address of the page that a reset link leads to: an
// absolute https URL, or http when the host is this machine, without user name,
// without a token parameter of its own. A query and a fragment are kept. Errors
// wrap [ErrResetURL].
func ParseResetURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: it does not parse", ErrResetURL)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: it must start with https://", ErrResetURL)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%w: the host is missing", ErrResetURL)
	case u.User != nil:
		return nil, fmt.Errorf("%w: it must not hold a user name or password", ErrResetURL)
	case u.Scheme == "http" && !isLoopbackInBrowsers(u.Hostname()):
		return nil, fmt.Errorf("%w: the link carries a secret: use https (http is for localhost only)", ErrResetURL)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query does not parse", ErrResetURL)
	}
	if query.Has("token") {
		return nil, fmt.Errorf("%w: the query already has a token parameter", ErrResetURL)
	}
	return u, nil
}

// resetLink appends the token to the query as it was written: re-encoding could
// change what a router compares. A fragment stays behind the query.
func resetLink(page *url.URL, token string) string {
	u := *page
	if u.RawQuery != "" && !strings.HasSuffix(u.RawQuery, "&") {
		u.RawQuery += "&"
	}
	u.RawQuery += "token=" + url.QueryEscape(token)
	return u.String()
}

// composer writes the mails. They hold nothing that a user has chosen: a name
// typed at sign-up would let anyone send a text of theirs to anyone, with this
// service's good reputation.
type composer struct {
	product string
	page    *url.URL
	valid   string
	text    *texttemplate.Template
	html    *htmltemplate.Template
}

// view is what the templates see.
type view struct {
	Product string
	Subject string
	Link    string
	Valid   string
	When    string
}

func newComposer(product string, page *url.URL, ttl time.Duration) (*composer, error) {
	text, err := texttemplate.ParseFS(templateFiles, "templates/*.txt")
	if err != nil {
		return nil, fmt.Errorf("mail: text templates: %w", err)
	}
	html, err := htmltemplate.ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("mail: HTML templates: %w", err)
	}
	return &composer{product: product, page: page, valid: spell(ttl), text: text, html: html}, nil
}

func (c *composer) reset(to, token string, now time.Time) (Message, error) {
	return c.compose("reset", to, now, view{
		Subject: "Reset your password for " + c.product,
		Link:    resetLink(c.page, token),
		Valid:   c.valid,
	})
}

// TestMessage is the mail by which an operator sees that mails arrive.
func TestMessage(product, to string, now time.Time) (Message, error) {
	letters, err := newComposer(product, nil, 0)
	if err != nil {
		return Message{}, err
	}
	return letters.compose("test", to, now, view{Subject: "A test of the mails of " + product, When: spellTime(now)})
}

// notice returns false for a kind that only a newer version knows.
func (c *composer) notice(kind Notice, to string, happened, now time.Time) (Message, bool, error) {
	subject := kind.subject(c.product)
	if subject == "" {
		return Message{}, false, nil
	}
	m, err := c.compose(string(kind), to, now, view{
		Subject: subject,
		When:    spellTime(happened),
	})
	return m, true, err
}

func (c *composer) compose(name, to string, now time.Time, v view) (Message, error) {
	v.Product = c.product
	var text, html bytes.Buffer
	if err := c.text.ExecuteTemplate(&text, name+".txt", v); err != nil {
		return Message{}, fmt.Errorf("mail: text of %s: %w", name, err)
	}
	if err := c.html.ExecuteTemplate(&html, name+".html", v); err != nil {
		return Message{}, fmt.Errorf("mail: HTML of %s: %w", name, err)
	}
	return Message{To: address.Mailbox(to), Subject: v.Subject, Text: text.String(), HTML: html.String(), Time: now}, nil
}

func spellTime(t time.Time) string { return t.UTC().Format("2 January 2006 at 15:04 UTC") }

// spell writes a duration for people, rounded down so that no link is promised
// to live longer than it does.
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
