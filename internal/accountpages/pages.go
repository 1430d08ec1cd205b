// Package accountpages serves the pages under /account/, on which people sign up, log in and look after their account.
//
// A page is a Go template and one script. Both are the same for everybody: the server renders no data of an account and
// reads no cookie but that of the language. The script calls the RPCs that everybody calls, over HTTP on the same origin,
// and writes what they answer as text. So the HTML of a page tells nothing about a person, and a name with a tag in it
// stays a name.
package accountpages

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/language"
)

// Root is the path of the pages.
const Root = "/account/"

// Config says what the pages show. The zero value of a field leaves it out, except where the field says otherwise.
type Config struct {
	// Product is the name of the service. Required.
	Product string
	// Issuer is the service's own identifier, for apps.
	Issuer string
	// Own are the operator's texts, styles, logo and fragments.
	Own Own
	// Color is the colour of buttons, as #rrggbb. Empty: blue.
	Color string
	// ReturnURLs are the URLs of apps to which a login may lead, compared letter by letter.
	ReturnURLs []string
	// Passkeys, LoginByCode and Verification say which of these the service has.
	Passkeys, LoginByCode, Verification bool
	// PasswordMin is how many characters a new password must have. Required.
	PasswordMin int
	// DeletionGrace is how long an account can be kept after its owner has deleted it.
	DeletionGrace time.Duration
}

//go:embed templates/*.html texts/*.json static/pages.js static/pages.css
var files embed.FS

// Pages is the handler of everything under [Root].
type Pages struct {
	cfg       Config
	languages []*texts
	matcher   language.Matcher
	// pages by name. A template is parsed when somebody asks for the page: all of them took 30 ms of each start.
	pages   map[string]func() (*template.Template, error)
	assets  map[string]*asset
	version string
	header  template.HTML
	footer  template.HTML
	mux     *http.ServeMux
}

func (o Own) parse(page string) (*template.Template, error) {
	parsed := template.New("").Option("missingkey=error")
	for _, file := range []string{layoutFile, page + ".html"} {
		source, err := o.source(file)
		if err != nil {
			return nil, err
		}
		if _, err := parsed.New(file).Parse(source); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return parsed, nil
}

// names are the pages, in the order of the navigation as far as they are in it.
func names() []string {
	return []string{
		"login", "code", "signup", "verify", "forgot", "reset", "email", // for everybody
		"security", "sessions", "activity", "delete", // for people who are logged in
	}
}

// New reads the texts, and the templates of the operator. Its errors are about the operator's: see [LoadOwn].
func New(cfg Config) (*Pages, error) {
	p := &Pages{cfg: cfg, pages: map[string]func() (*template.Template, error){}}
	var err error
	if p.languages, err = loadTexts(cfg.Own.Texts, cfg.Product); err != nil {
		return nil, err
	}
	tags := make([]language.Tag, len(p.languages))
	for i, one := range p.languages {
		tags[i] = one.tag
	}
	p.matcher = language.NewMatcher(tags)
	if p.assets, p.version, err = newAssets(cfg); err != nil {
		return nil, err
	}
	p.header, p.footer = cfg.Own.Header, cfg.Own.Footer
	for _, name := range names() {
		p.pages[name] = sync.OnceValues(func() (*template.Template, error) {
			return cfg.Own.parse(name)
		})
	}
	if len(cfg.Own.Templates) > 0 { // the operator's templates are tried at the start, ours by a test
		for name := range p.pages {
			for _, language := range p.languages {
				if _, err := p.render(name, language, nil, &url.URL{}); err != nil {
					return nil, fmt.Errorf("%w: %w", ErrOwn, err)
				}
			}
		}
	}
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("GET "+Root+"{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, Root+"security", http.StatusSeeOther)
	})
	p.mux.HandleFunc("GET "+Root+"{page}", p.servePage)
	p.mux.HandleFunc("GET "+Root+"assets/{version}/{name}", p.serveAsset)
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w)
	p.mux.ServeHTTP(w, r)
}

// policy lets a page load what this service serves under its own origin and nothing else. No script or style is inline,
// and with trusted types no script can turn text into HTML. A form can be sent nowhere: without its script a page does
// nothing, and puts no password into an address. blob: is for the QR code of an authenticator app.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func setHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), "+
		"camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), serial=(), usb=()")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
}

// view is what a template sees.
type view struct {
	Page, Product, Language string
	T                       map[string]string
	Version                 string
	HasLogo, HasStyle       bool
	Header, Footer          template.HTML
	Languages               []languageLink
	LoggedIn                bool   // the page is for people who are logged in
	Query                   string // of links to pages that end in a login
	Passkeys, LoginByCode   bool
	Verification, Grace     bool
	PasswordMin             int
	Script                  scriptConfig
}

type languageLink struct {
	Tag, Name string
	Link      string
	Current   bool
}

// scriptConfig is what the script reads. It holds nothing about a person.
type scriptConfig struct {
	Texts map[string]string `json:"texts"`
	// Return is where a login leads, if to an app. The script knows it only from here, where it was checked.
	Return *Return `json:"return,omitempty"`
	// Next is the page that a login leads to otherwise.
	Next     string `json:"next"`
	Passkeys bool   `json:"passkeys"`
	// Verification says that people are asked to prove their address.
	Verification bool `json:"verification"`
}

func (p *Pages) servePage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("page")
	if p.pages[name] == nil {
		http.NotFound(w, r)
		return
	}
	to, err := p.parseReturn(r.URL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	language := p.choose(w, r)
	body, err := p.render(name, language, to, r.URL)
	if err != nil {
		http.Error(w, "the page could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", language.tag.String())
	w.Header().Set("Vary", "Accept-Language, Cookie")
	_, _ = w.Write(body) // an error means that the reader has hung up
}

func (p *Pages) render(name string, in *texts, to *Return, from *url.URL) ([]byte, error) {
	v := view{
		Page: name, Product: p.cfg.Product, Language: in.tag.String(), T: in.page, Version: p.version,
		HasLogo: p.assets["logo"] != nil, HasStyle: p.assets["own.css"] != nil, Header: p.header, Footer: p.footer,
		LoggedIn: slices.Index(names(), name) >= slices.Index(names(), "security"),
		Passkeys: p.cfg.Passkeys, LoginByCode: p.cfg.LoginByCode, Verification: p.cfg.Verification, Grace: p.cfg.DeletionGrace > 0,
		PasswordMin: p.cfg.PasswordMin, Query: loginQuery(to, from),
		Script: scriptConfig{Texts: in.script, Return: to, Next: nextPage(from), Passkeys: p.cfg.Passkeys, Verification: p.cfg.Verification},
	}
	if name == "activity" {
		v.Script.Texts = in.scriptAndKinds
	}
	if len(p.languages) > 1 {
		for _, one := range p.languages {
			query := url.Values{}
			if v.Query != "" {
				query, _ = url.ParseQuery(strings.TrimPrefix(v.Query, "?")) // it was encoded a moment ago
			}
			query.Set("lang", one.tag.String())
			v.Languages = append(v.Languages, languageLink{
				Tag: one.tag.String(), Name: one.page["language"], Link: "?" + query.Encode(), Current: one == in,
			})
		}
	}
	page, err := p.pages[name]()
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := page.ExecuteTemplate(&body, layoutFile, v); err != nil {
		return nil, fmt.Errorf("%s in %s: %w", name, in.tag, err)
	}
	return body.Bytes(), nil
}

// nextPage returns the page that a login leads to. The query names one of the pages for people who are logged in; any
// other text counts as none.
func nextPage(from *url.URL) string {
	inside := names()[slices.Index(names(), "security"):]
	if next := from.Query().Get("next"); slices.Contains(inside, next) {
		return next
	}
	return inside[0]
}

// loginQuery returns the query of links between pages that end in a login: only what was understood is carried on.
func loginQuery(to *Return, from *url.URL) string {
	query := url.Values{}
	if to != nil {
		to.addTo(query)
	}
	if next := nextPage(from); next != "security" {
		query.Set("next", next)
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}
