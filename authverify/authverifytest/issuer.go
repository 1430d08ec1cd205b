// Package authverifytest is an issuer of access tokens for the tests of services that use authverify. It has keys, a
// JWK set over HTTP and the stream of revocations over gRPC, all in the process of the test.
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
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

const (
	// Audience is "aud" of the tokens.
	Audience = "authverifytest"

	clientID   = "authverifytest"
	serviceKey = "authverifytest-service-key"
	waitLimit  = 20 * time.Second
	// life is the life of the tokens: the longest that a Verifier accepts by default.
	life = 15 * time.Minute
)

// Issuer issues tokens and revokes them. It is safe for concurrent use.
type Issuer struct {
	t      testing.TB
	jwks   *httptest.Server
	server *grpc.Server
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
	jwk     accesstoken.JWK
}

// NewIssuer returns an issuer with one key and no revocations. It is closed when the test ends.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := start(t)
	t.Cleanup(i.Close)
	return i
}

// Start is NewIssuer without a test, for example in an example. It panics if something fails. Call Close at the end.
func Start() *Issuer { return start(panicking{}) }

// panicking replaces a test.
type panicking struct{ testing.TB }

func (panicking) Helper()                           {}
func (panicking) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func start(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, ledger: newLedger(), server: grpc.NewServer()}
	i.real = time.Now
	i.addKey()
	i.jwks = httptest.NewServer(http.HandlerFunc(i.serveJWKS))
	listener := bufconn.Listen(1 << 16)
	latchkeyv1.RegisterRevocationServiceServer(i.server, i.ledger)
	go func() { _ = i.server.Serve(listener) }() // returns after Stop
	conn, err := grpc.NewClient("passthrough:///authverifytest",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		i.Close()
		t.Fatalf("authverifytest: %v", err)
	}
	i.conn = conn
	return i
}

// Close stops the issuer. With NewIssuer, the end of the test calls it. Close Verifiers first.
func (i *Issuer) Close() {
	if i.conn != nil {
		_ = i.conn.Close() // nothing can be lost any more
	}
	i.server.Stop()
	i.jwks.Close()
}

// Config returns the settings of a Verifier of this issuer's tokens, which the test may change. It logs nothing. Close
// the Verifier before the issuer.
func (i *Issuer) Config() authverify.Config {
	return authverify.Config{
		Issuer: i.jwks.URL, Audience: Audience, Conn: i.conn, ServiceKey: serviceKey,
		HTTPClient: i.jwks.Client(), Now: i.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// Verifier returns a Verifier that is ready. The issuer follows it (see Follow), and it is closed when t ends.
func (i *Issuer) Verifier(t testing.TB) *authverify.Verifier {
	t.Helper()
	verifier, err := authverify.NewVerifier(i.Config())
	if err != nil {
		t.Fatalf("authverifytest: %v", err)
	}
	t.Cleanup(verifier.Close)
	t.Cleanup(i.Follow(verifier))
	return verifier
}

// Follow waits until a Verifier of this issuer is ready. From then on, the methods that revoke return when the Verifier
// knows the revocation. Call stop before you close the Verifier.
func (i *Issuer) Follow(verifier *authverify.Verifier) (stop func()) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := verifier.Ready(ctx); err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.verifiers = append(i.verifiers, verifier)
	return func() { i.forget(verifier) }
}

func (i *Issuer) forget(verifier *authverify.Verifier) {
	i.mu.Lock()
	defer i.mu.Unlock()
	others := slices.Clone(i.verifiers) // wait may be reading the list
	i.verifiers = slices.DeleteFunc(others, func(other *authverify.Verifier) bool { return other == verifier })
}

// Now returns the time on the issuer's clock, which its Verifiers use too.
func (i *Issuer) Now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.real().Add(i.offset)
}

// Advance moves the clock, and returns when the Verifiers have heard from the issuer after that, unless the issuer is
// disconnected.
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

// Claims returns the claims of a new session of a new user. They are valid from now on for 15 minutes.
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
	if claims.Position == 0 {
		claims.Position = i.ledger.position()
	}
	if claims.IssuedAt.IsZero() {
		claims.IssuedAt = i.Now().Truncate(time.Second).UTC()
	}
	if claims.ExpireTime.IsZero() {
		claims.ExpireTime = claims.IssuedAt.Add(life)
	}
	if claims.ACR == "" {
		claims.ACR = accesstoken.ACROf(claims.AMR)
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

// Issue returns an access token with these claims. It fills zero fields as Claims does. The test fails if no token may
// have the claims.
func (i *Issuer) Issue(claims authverify.Claims) string {
	i.t.Helper()
	return i.sign(i.fill(claims))
}

// IssueSessionless returns an access token without a session, for example for a machine. Verifiers with
// Config.Sessionless accept it. It ignores the session of claims, and fills other zero fields as Claims does.
func (i *Issuer) IssueSessionless(claims authverify.Claims) string {
	i.t.Helper()
	claims = i.fill(claims)
	claims.SessionID = uuid.Nil
	return i.sign(claims)
}

func (i *Issuer) sign(claims authverify.Claims) string {
	i.t.Helper()
	rules := accesstoken.Rules{Issuer: i.jwks.URL, Audience: Audience, MaxTTL: 24 * time.Hour, Sessionless: true}
	wire, err := rules.Write(accesstoken.Claims(claims))
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims(wire))
	unsigned.Header["typ"], unsigned.Header["kid"] = accesstoken.TokenType, key.id
	token, err := unsigned.SignedString(key.private)
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	return token
}

// RotateKey makes a new key, which signs from now on, and returns its id. The older keys are still published.
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
	jwk, err := accesstoken.NewJWK(public)
	if err != nil {
		i.t.Fatalf("authverifytest: %v", err)
	}
	jwk.KeyID = jwk.Thumbprint()
	jwk.Use, jwk.Algorithm = "sig", accesstoken.EdDSA
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
		Keys []accesstoken.JWK `json:"keys"`
	}
	i.mu.Lock()
	for _, key := range i.keys {
		set.Keys = append(set.Keys, key.jwk)
	}
	i.mu.Unlock()
	_ = json.NewEncoder(w).Encode(set) // a client that has hung up needs no answer
}
