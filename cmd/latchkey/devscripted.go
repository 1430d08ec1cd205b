package main

import (
	_ "embed"
	"net/http"
)

// scriptedPage is a page of dev with a script beside it.
type scriptedPage struct {
	path         string
	html, script []byte
	// connect is where the script may send requests, as a source of a content security policy.
	connect string
}

var (
	//go:embed devpasskeys.html
	passkeyHTML []byte
	//go:embed devpasskeys.js
	passkeyScript []byte
	//go:embed devapi.html
	apiHTML []byte
	//go:embed devapi.js
	apiScript []byte
)

const (
	passkeyPath = "/dev/passkeys" //nolint:gosec // G101: a path
	apiPath     = "/dev/api"
)

func scriptedPages() []scriptedPage {
	return []scriptedPage{
		// It plays the part of an app's page for passkeys: it passes the options of the service to the browser, and shows
		// what the browser answers. It calls nothing, so it can do no more than the person who looks at it.
		{passkeyPath, passkeyHTML, passkeyScript, "'none'"},
		// It shows /openapi.json.
		{apiPath, apiHTML, apiScript, "'self'"},
	}
}

// register serves the page and its script.
func (p scriptedPage) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+p.path, func(w http.ResponseWriter, _ *http.Request) {
		pageHeaders(w)
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src "+p.connect+"; frame-ancestors 'none'")
		_, _ = w.Write(p.html)
	})
	mux.HandleFunc("GET "+p.path+".js", func(w http.ResponseWriter, _ *http.Request) {
		pageHeaders(w)
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(p.script)
	})
}
