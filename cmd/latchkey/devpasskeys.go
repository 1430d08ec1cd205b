package main

import (
	_ "embed"
	"net/http"
)

// passkeyPath is the page that plays the part of an app's page for passkeys: it passes the options of the service to the
// browser, and shows what the browser answers. It calls nothing, so it can do no more than the person who looks at it.
const passkeyPath = "/dev/passkeys" //nolint:gosec // G101: a path

var (
	//go:embed devpasskeys.html
	passkeyPage []byte
	//go:embed devpasskeys.js
	passkeyScript []byte
)

func servePasskeyPage(w http.ResponseWriter, _ *http.Request) {
	pageHeaders(w)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; frame-ancestors 'none'")
	_, _ = w.Write(passkeyPage)
}

func servePasskeyScript(w http.ResponseWriter, _ *http.Request) {
	pageHeaders(w)
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(passkeyScript)
}
