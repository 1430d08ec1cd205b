package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	"github.com/latchkey-auth/latchkey/gen/openapi"
)

// serveOpenAPI serves the description of the calls with JSON (OpenAPI 3.1). It holds nothing that the proto files do not,
// so every origin may read it. It is kept compressed: 24 KB in the place of 160.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(openapi.Compressed)
		return
	}
	text, err := gzip.NewReader(bytes.NewReader(openapi.Compressed))
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(w, text) //nolint:gosec // G110: it is our own
}
