// Package authverifytest is an issuer of access tokens for the tests of services
// that use authverify: keys, a JWK set over HTTP and the stream of revocations over
// gRPC, all in the test's own process.
//
//	issuer := authverifytest.NewIssuer(t)
//	verifier := issuer.Verifier(t)
//	claims := issuer.Claims()
//	token := issuer.Issue(claims)
//	// token is accepted
//	issuer.RevokeSession(claims.UserID, claims.SessionID)
//	// and now refused
package authverifytest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

const (
	// Audience is "aud" of the tokens.
	Audience = "authverifytest"

	clientID   = "authverifytest"
	serviceKey = "authverifytest-service-key"
	waitLimit  = 20 * time.Second
)

// Issuer issues tokens and revokes them. It is safe for concurrent use. It ends with
// the test that made it.
type Issuer struct {
	t      testing.TB
	jwks   *httptest.Server
	conn   *grpc.ClientConn
	ledger *ledger
	real   func() time.Time

	mu        sync.Mutex
	offset    time.Duration
	keys      []signingKey // the last one signs
	verifiers []*authverify.Verifier
}

type signingKey struct {
	id      string
	private ed25519.PrivateKey
	jwk     authverify.JWK
}

// NewIssuer returns an issuer with one key and nothing revoked.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, ledger: newLedger()}
	i.real = time.Now
	i.addKey()
	i.jwks = httptest.NewServer(http.HandlerFunc(i.serveJWKS))
	t.Cleanup(i.jwks.Close)

	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	latchkeyv1.RegisterRevocationServiceServer(server, i.ledger)
	go func() { _ = server.Serve(listener) }() // it ends with Stop
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///authverifytest",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("authverifytest: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // there is nothing left to lose
	i.conn = conn
	return i
}

// Config is that of a Verifier of this issuer's tokens, to be changed by the test. It
// logs nothing. The Verifier must be closed before the test ends: Follow does.
func (i *Issuer) Config() authverify.Config {
	return authverify.Config{
		Issuer: i.jwks.URL, Audience: Audience, Conn: i.conn, ServiceKey: serviceKey,
		HTTPClient: i.jwks.Client(), Now: i.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// Verifier returns a Verifier that is ready, and is closed when t ends. The methods
// that revoke return when it knows.
func (i *Issuer) Verifier(t testing.TB) *authverify.Verifier {
	t.Helper()
	verifier, err := authverify.NewVerifier(i.Config())
	if err != nil {
		t.Fatalf("authverifytest: %v", err)
	}
	i.Follow(t, verifier)
	return verifier
}

// Follow makes a Verifier of the test's own one of those that the methods which
// revoke wait for: it waits until that is ready, and closes it when t ends.
func (i *Issuer) Follow(t testing.TB, verifier *authverify.Verifier) {
	t.Helper()
	t.Cleanup(func() {
		i.forget(verifier)
		verifier.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := verifier.Ready(ctx); err != nil {
		t.Fatalf("authverifytest: %v", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.verifiers = append(i.verifiers, verifier)
}

func (i *Issuer) forget(verifier *authverify.Verifier) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var rest []*authverify.Verifier
	for _, other := range i.verifiers {
		if other != verifier {
			rest = append(rest, other)
		}
	}
	i.verifiers = rest
}

// Now is the issuer's clock, which its Verifiers share.
func (i *Issuer) Now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.real().Add(i.offset)
}

// Advance moves the clock, and returns when the Verifiers have news again from
// after that, unless the issuer is disconnected.
func (i *Issuer) Advance(d time.Duration) {
	i.t.Helper()
	i.mu.Lock()
	i.offset += d
	i.mu.Unlock()
	moved := i.Now()
	i.ledger.beat()
	if i.ledger.disconnected() {
		return
	}
	i.wait("have news after Advance", func(v *authverify.Verifier) bool {
		return !i.Now().Add(-v.Staleness()).Before(moved)
	})
}

// Claims returns those of a new session of a new user, in force from now on for 15
// minutes.
func (i *Issuer) Claims() authverify.Claims {
	i.t.Helper()
	return i.fill(authverify.Claims{})
}

func (i *Issuer) fill(claims authverify.Claims) authverify.Claims {
	i.t.Helper()
	if claims.UserID == uuid.Nil {
		claims.UserID = i.newID()
	}
	if claims.SessionID == uuid.Nil {
		claims.SessionID = i.newID()
	}
	if claims.ID == "" {
		claims.ID = i.newID().String()
	}
	if claims.ClientID == "" {
		claims.ClientID = clientID
	}
	if claims.Ledger == 0 {
		claims.Ledger = i.ledger.position()
	}
	if claims.IssuedAt.IsZero() {
		claims.IssuedAt = i.Now().Truncate(time.Second).UTC()
	}
	if claims.ExpireTime.IsZero() {
		claims.ExpireTime = claims.IssuedAt.Add(authverify.DefaultMaxTTL)
	}
	return claims
}

func (i *Issuer) newID() uuid.UUID {
	i.t.Helper()
	id, err := uuid.NewRandom()
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	return id
}

// Issue returns an access token with these claims; zero fields become as in Claims.
// Claims that no token may carry fail the test.
func (i *Issuer) Issue(claims authverify.Claims) string {
	i.t.Helper()
	rules := authverify.Rules{Issuer: i.jwks.URL, Audience: Audience, MaxTTL: 24 * time.Hour}
	wire, err := rules.Write(i.fill(claims))
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims(wire))
	unsigned.Header["typ"], unsigned.Header["kid"] = authverify.TokenType, key.id
	token, err := unsigned.SignedString(key.private)
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	return token
}

// RotateKey makes a new key that signs from now on, and returns its id. The older
// ones are still published.
func (i *Issuer) RotateKey() string {
	i.t.Helper()
	id := i.addKey()
	i.append(&latchkeyv1.Revocation{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED})
	return id
}

func (i *Issuer) addKey() string {
	i.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	jwk, err := authverify.NewJWK(public)
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	jwk.KeyID = jwk.Thumbprint()
	jwk.Use, jwk.Algorithm = "sig", authverify.EdDSA
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, signingKey{jwk.KeyID, private, jwk})
	return jwk.KeyID
}

func (i *Issuer) serveJWKS(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/.well-known/jwks.json" {
		http.NotFound(w, r)
		return
	}
	if i.ledger.disconnected() {
		http.Error(w, "disconnected", http.StatusServiceUnavailable)
		return
	}
	var set struct {
		Keys []authverify.JWK `json:"keys"`
	}
	i.mu.Lock()
	for _, key := range i.keys {
		set.Keys = append(set.Keys, key.jwk)
	}
	i.mu.Unlock()
	_ = json.NewEncoder(w).Encode(set) // a client that has gone needs no answer
}
