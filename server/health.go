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

// readiness is the last known state of the stores.
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

// serveHealthz answers if the process runs.
func serveHealthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// Health is what /readyz says: whether to send calls here, the state of each store ("ok" or what is wrong), and warnings
// for the operator.
type Health struct {
	Ready    bool     `json:"ready"`
	Stopping bool     `json:"stopping"`
	Postgres string   `json:"postgres"`
	Redis    string   `json:"redis"`
	Warnings []string `json:"warnings,omitempty"`
}

// Health returns the last known state.
func (s *Server) Health() Health {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	state := Health{s.ready.postgres == storeOK && !s.ready.stopping, s.ready.stopping, s.ready.postgres, s.ready.redis, nil}
	if s.cfg.Warnings != nil {
		state.Warnings = s.cfg.Warnings()
	}
	return state
}

// serveReadyz says whether to send calls here, the state of each store, and the warnings for the operator.
func (s *Server) serveReadyz(w http.ResponseWriter, _ *http.Request) {
	state := s.Health()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !state.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(state)
}

// jwksMaxAge is how long a JWKS may be cached. A key is published signing.PublishAhead before it signs. That leaves 5
// minutes for replicas and caches that are late.
const jwksMaxAge = 5 * time.Minute

// serveJWKS publishes the keys that verify access tokens (RFC 7517). Verifiers that find an unknown kid ask again, even
// if they have a cached JWKS.
func (s *Server) serveJWKS(w http.ResponseWriter, r *http.Request) {
	servePublished(w, r, "application/jwk-set+json", s.cfg.Keyring.JWKS())
}

// servePublished answers with a document that everybody may read and cache for jwksMaxAge.
func servePublished(w http.ResponseWriter, r *http.Request, contentType string, document []byte) {
	sum := sha256.Sum256(document)
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(jwksMaxAge.Seconds())))
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:])+`"`)
	// It handles If-None-Match. With the zero time there is no Last-Modified.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(document))
}
