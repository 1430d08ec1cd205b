// Package operatorpage serves the page for operators on the operations listener: accounts, signing keys, audit events,
// and how the replicas, the ledger and the mails are. The page is a script that calls AdminService with the operator's
// key, which it keeps in memory alone; this package serves the page and its state.
package operatorpage

import (
	"context"
	"embed"
	"encoding/json"
	"net/http"
	"time"
)

// statusTime is how long the stores may take to say how they are.
const statusTime = 3 * time.Second

//go:embed page.html page.js page.css
var files embed.FS

// Status is how the service is, for the page. Parts that could not be read are empty, and Problems says why.
type Status struct {
	Version string `json:"version"`
	// Changes says whether this listener also takes calls that change something.
	Changes  bool     `json:"changes"`
	Ready    bool     `json:"ready"`
	Postgres string   `json:"postgres"`
	Redis    string   `json:"redis"`
	Warnings []string `json:"warnings"`
	Problems []string `json:"problems"`

	Ledger   Ledger    `json:"ledger"`
	Replicas []Replica `json:"replicas"`
	Keys     []Key     `json:"keys"`
	Mails    Mails     `json:"mails"`
}

// Ledger is the state of the revocation ledger. Head is the newest position, Applied what this replica has in memory, and
// Trusted whether it answers from there.
type Ledger struct {
	Head    int64 `json:"head"`
	Applied int64 `json:"applied"`
	Rows    int   `json:"rows"`
	Trusted bool  `json:"trusted"`
}

// Replica is a process that follows the ledger. Behind is how many positions it has not applied yet.
type Replica struct {
	ID      string `json:"id"`
	Behind  int64  `json:"behind"`
	LeaseMS int32  `json:"leaseMs"`
	Leaving bool   `json:"leaving"`
}

// Key is a key that signs access tokens, or did.
type Key struct {
	ID        string    `json:"kid"`
	Algorithm string    `json:"algorithm"`
	State     string    `json:"state"`
	Created   time.Time `json:"created"`
	Activated time.Time `json:"activated,omitzero"`
	Retired   time.Time `json:"retired,omitzero"`
}

// Mails counts mails that wait, those among them that failed before, and those that were given up in the last day.
type Mails struct {
	Pending       int64   `json:"pending"`
	Failing       int64   `json:"failing"`
	GivenUp       int64   `json:"givenUp"`
	OldestSeconds float64 `json:"oldestSeconds"`
}

// Config has what the page needs. All fields are required.
type Config struct {
	// IsOperator reports whether a request shows the key of an operator.
	IsOperator func(*http.Request) bool
	// Status reads the state. It always returns one.
	Status func(context.Context) Status
}

// Register adds the page and its state to mux. Only the state needs a key: the page is the same everywhere.
func Register(mux *http.ServeMux, cfg Config) {
	for path, file := range map[string]struct{ name, contentType string }{
		"GET /{$}":                {"page.html", "text/html; charset=utf-8"},
		"GET /operators/page.js":  {"page.js", "text/javascript; charset=utf-8"},
		"GET /operators/page.css": {"page.css", "text/css; charset=utf-8"},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			headers(w, file.contentType)
			http.ServeFileFS(w, r, files, file.name)
		})
	}
	mux.HandleFunc("GET /operators/status.json", func(w http.ResponseWriter, r *http.Request) {
		headers(w, "application/json")
		if !cfg.IsOperator(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, `{"code":"unauthenticated","message":"send the key of an operator as authorization: Bearer KEY"}`, http.StatusUnauthorized)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), statusTime)
		defer cancel()
		_ = json.NewEncoder(w).Encode(cfg.Status(ctx)) // an error means that the reader has hung up
	})
}

func headers(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
