package server

import (
	"net/http"
	"net/url"

	"github.com/rs/cors"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// preflightAge is how long a browser may keep the answer to a preflight, in seconds: the most that Chromium keeps.
const preflightAge = 7200

// forBrowsers lets scripts of the listed origins call, and no others (Fetch, "CORS protocol"), and keeps answers out of
// caches. Without WebCookies there are no cookies, so a page of another origin can do nothing that its visitor's network
// could not.
func (s *Server) forBrowsers() func(http.Handler) http.Handler {
	listed := make(map[string]bool, len(s.cfg.WebOrigins))
	for _, origin := range s.cfg.WebOrigins {
		listed[origin] = true
	}
	allowed := func(origin string) bool { return listed[origin] || s.cfg.LocalOrigins && isLocal(origin) }
	crossOrigin := cors.New(cors.Options{
		AllowOriginFunc:  allowed,
		AllowCredentials: s.cfg.WebCookies,
		AllowedMethods:   []string{http.MethodPost},
		AllowedHeaders: []string{
			"authorization", "content-type", "connect-protocol-version", "connect-timeout-ms", "grpc-timeout", "traceparent", "tracestate",
			"x-grpc-web", "x-user-agent",
		},
		ExposedHeaders: []string{"grpc-status", "grpc-message", "grpc-status-details-bin", "trace-id", "trailer-trace-id"},
		MaxAge:         preflightAge,
	})
	// Made once: nobody changes the values of these headers.
	noStore, noSniff := []string{"no-store"}, []string{"nosniff"}
	return func(next http.Handler) http.Handler {
		return crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			headers := w.Header() // its names are in canonical form here
			headers["Cache-Control"], headers["X-Content-Type-Options"] = noStore, noSniff
			next.ServeHTTP(w, s.withJar(r, allowed))
		}))
	}
}

// isLocal reports whether an origin is a page of this machine, on any port.
func isLocal(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && hosts.IsLoopbackInBrowsers(u.Hostname())
}
