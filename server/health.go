package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// readiness is what was last seen of the stores.
type readiness struct {
	mu       sync.Mutex
	postgres string
	redis    string
	stopping bool

	doubts doubts
}

func (r *readiness) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
}

func (s *Server) setServing(serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	// After Shutdown these calls change nothing.
	s.health.SetServingStatus("", state)
	for name := range s.grpc.GetServiceInfo() {
		if !publicServices()[name] {
			s.health.SetServingStatus(name, state)
		}
	}
}

// serveHealthz says that the process answers.
func serveHealthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// serveReadyz says whether calls should be sent here, what each store does, and what an
// operator should look at.
func (s *Server) serveReadyz(w http.ResponseWriter, _ *http.Request) {
	s.ready.mu.Lock()
	state := struct {
		Ready    bool     `json:"ready"`
		Stopping bool     `json:"stopping"`
		Postgres string   `json:"postgres"`
		Redis    string   `json:"redis"`
		Warnings []string `json:"warnings,omitempty"`
	}{s.ready.postgres == storeOK && !s.ready.stopping, s.ready.stopping, s.ready.postgres, s.ready.redis, nil}
	s.ready.mu.Unlock()
	if s.cfg.Warnings != nil {
		state.Warnings = s.cfg.Warnings()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !state.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(state)
}

// jwksMaxAge is how long a JWKS may be kept. A key is published for
// signing.PublishAhead before it signs, which leaves 5 minutes for replicas that hear
// of it late and caches that are.
const jwksMaxAge = 5 * time.Minute

// serveJWKS publishes the keys that verify access tokens (RFC 7517). Verifiers that
// meet a kid they do not know ask again whatever they have cached.
func (s *Server) serveJWKS(w http.ResponseWriter, r *http.Request) {
	servePublished(w, r, "application/jwk-set+json", s.cfg.Keyring.JWKS())
}

// servePublished answers with a document that everybody may read and keep for jwksMaxAge.
func servePublished(w http.ResponseWriter, r *http.Request, contentType string, document []byte) {
	sum := sha256.Sum256(document)
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(jwksMaxAge.Seconds())))
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:])+`"`)
	// It answers If-None-Match. A time of zero: none is told.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(document))
}
