package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

const (
	jwksPath = "/.well-known/jwks.json"
	// openIDPath is appended to the issuer (OpenID Connect Discovery 1.0, section 4).
	openIDPath = "/.well-known/openid-configuration"
	// serverPath stands between the issuer's host and its path (RFC 8414, section 3).
	serverPath = "/.well-known/oauth-authorization-server"
)

// discovery is what a verifier needs that knows the issuer alone (RFC 8414, section 2). There is no more to say: the
// service has no authorization or token endpoint, and a list without elements must be left out (section 3.2).
type discovery struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"`
	// Algorithms are those of the keys in the JWKS. No ID tokens are issued; the name is where libraries look for what
	// the issuer signs with.
	Algorithms []accesstoken.Algorithm `json:"id_token_signing_alg_values_supported"`
}

// serveDiscovery describes the issuer. It may be kept for as long as the JWKS, which is when another algorithm begins.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	issuer := s.cfg.Keyring.Issuer()
	document, err := json.Marshal(discovery{
		Issuer: issuer, JWKSURI: strings.TrimSuffix(issuer, "/") + jwksPath, Algorithms: s.cfg.Keyring.Algorithms(),
	})
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	servePublished(w, r, "application/json", document)
}

// discoveryPaths are where the JWKS and the discovery documents of an issuer are served: at the root of the listener, and,
// for an issuer with a path behind a proxy that keeps it, where verifiers look for them then.
func discoveryPaths(issuer string) (jwks, documents []string) {
	jwks, documents = []string{jwksPath}, []string{openIDPath, serverPath}
	parsed, err := url.Parse(issuer)
	if err != nil {
		return jwks, documents
	}
	// A path that a pattern would read in another way than to the letter is only served at the root.
	path := strings.TrimSuffix(parsed.EscapedPath(), "/")
	if path == "" || path != parsed.Path && path+"/" != parsed.Path || strings.ContainsAny(path, "{} ") || strings.Contains(path, "//") || strings.Contains(path, "/.") {
		return jwks, documents
	}
	// The last of them is RFC 8414's for its OpenID document (section 5).
	return append(jwks, path+jwksPath), append(documents, path+openIDPath, serverPath+path, openIDPath+path)
}
