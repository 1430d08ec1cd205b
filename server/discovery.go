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
	// serverPath is between the issuer's host and its path (RFC 8414, section 3).
	serverPath = "/.well-known/oauth-authorization-server"
)

// discovery has the data for a verifier that knows only the issuer (RFC 8414, section 2). There is no more to say: the
// service has no authorization or token endpoint, and a list without elements must be left out (section 3.2).
type discovery struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"`
	// Algorithms are those of the keys in the JWKS. Latchkey issues no ID tokens, but libraries look for the issuer's
	// algorithms under this name.
	Algorithms []accesstoken.Algorithm `json:"id_token_signing_alg_values_supported"`
}

// serveDiscovery describes the issuer. It may be cached as long as the JWKS, because a new algorithm starts no earlier
// than that.
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

// discoveryPaths returns the paths of the JWKS and of the discovery documents. They are at the root of the listener. If
// the issuer has a path, and is behind a proxy that does not remove it, they are also where verifiers then look for
// them.
func discoveryPaths(issuer string) (jwks, documents []string) {
	jwks, documents = []string{jwksPath}, []string{openIDPath, serverPath}
	parsed, err := url.Parse(issuer)
	if err != nil {
		return jwks, documents
	}
	// If a pattern of the HTTP server would not read the path literally, they are only at the root.
	path := strings.TrimSuffix(parsed.EscapedPath(), "/")
	if path == "" || path != parsed.Path && path+"/" != parsed.Path || strings.ContainsAny(path, "{} ") || strings.Contains(path, "//") || strings.Contains(path, "/.") {
		return jwks, documents
	}
	// The last one is where RFC 8414 (section 5) has the OpenID document.
	return append(jwks, path+jwksPath), append(documents, path+openIDPath, serverPath+path, openIDPath+path)
}
