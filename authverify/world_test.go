package authverify_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

const (
	issuer    = "https://auth.example.com"
	audience  = "orders"
	waitLimit = 20 * time.Second
)

// world is a Latchkey of which the test decides every answer: the JWK set, and each response of each stream.
// Nothing is sent unless the test does.
type world struct {
	latchkeyv1.UnimplementedRevocationServiceServer

	conn    *grpc.ClientConn
	streams chan *stream // each that a Verifier opens
	jwksURL string

	mu       sync.Mutex
	now      time.Time
	keys     map[string]testKey
	document string // answered instead of the keys
	code     int
	fetches  int
	gate     chan struct{} // holds up fetches
	changes  []bool        // the arguments of OnFreshness
}

type testKey struct {
	private ed25519.PrivateKey
	jwk     accesstoken.JWK
}

// stream is one call of WatchRevocations.
type stream struct {
	cursor     string
	credential []string
	out        chan *latchkeyv1.WatchRevocationsResponse
	end        chan error
	gone       <-chan struct{}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		streams: make(chan *stream), now: time.Unix(1_800_000_000, 700_000_000), keys: map[string]testKey{}, code: http.StatusOK,
	}
	pages := httptest.NewServer(http.HandlerFunc(w.serveJWKS))
	t.Cleanup(pages.Close)
	w.jwksURL = pages.URL + "/keys"
	w.addKey(t, "k1")
	w.conn = serve(t, func(s *grpc.Server) { latchkeyv1.RegisterRevocationServiceServer(s, w) })
	return w
}

// serve serves what register registers, and returns a connection to it.
func serve(t testing.TB, register func(*grpc.Server), options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(options...)
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) WatchRevocations(req *latchkeyv1.WatchRevocationsRequest, ss grpc.ServerStreamingServer[latchkeyv1.WatchRevocationsResponse]) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	s := &stream{
		cursor: req.GetCursor(), credential: md.Get("authorization"),
		out: make(chan *latchkeyv1.WatchRevocationsResponse), end: make(chan error), gone: ss.Context().Done(),
	}
	select {
	case w.streams <- s:
	case <-ss.Context().Done():
		return ss.Context().Err()
	}
	for {
		select {
		case resp := <-s.out:
			if err := ss.Send(resp); err != nil {
				return err
			}
		case err := <-s.end:
			return err
		case <-ss.Context().Done():
			return ss.Context().Err()
		}
	}
}

func (w *world) serveJWKS(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.fetches++
	gate := w.gate
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var set struct {
		Keys []accesstoken.JWK `json:"keys"`
	}
	for _, key := range w.keys {
		set.Keys = append(set.Keys, key.jwk)
	}
	if w.code == http.StatusFound && r.URL.Path != "/moved" {
		http.Redirect(rw, r, "/moved", http.StatusFound) // where the keys are
		return
	}
	if w.code != http.StatusFound {
		rw.WriteHeader(w.code)
	}
	if w.document != "" {
		_, _ = rw.Write([]byte(w.document))
		return
	}
	_ = json.NewEncoder(rw).Encode(set)
}

// edit changes the world's fields.
func (w *world) edit(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) { w.edit(func() { w.now = w.now.Add(d) }) }

func (w *world) fetchCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetches
}

// hold makes fetches wait until the function it returns is called.
func (w *world) hold() (release func()) {
	gate := make(chan struct{})
	w.edit(func() { w.gate = gate })
	return func() {
		w.edit(func() { w.gate = nil })
		close(gate)
	}
}

// addKey publishes a new key under id, in place of any that has it.
func (w *world) addKey(t testing.TB, id string) {
	t.Helper()
	key := newTestKey(t, id)
	w.edit(func() { w.keys[id] = key })
}

func newTestKey(t testing.TB, id string) testKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := accesstoken.NewJWK(public)
	if err != nil {
		t.Fatal(err)
	}
	jwk.KeyID, jwk.Use, jwk.Algorithm = id, "sig", accesstoken.EdDSA
	return testKey{private, jwk}
}

func (w *world) config() authverify.Config {
	return authverify.Config{
		Issuer: issuer, Audience: audience, JWKSURL: w.jwksURL, Conn: w.conn, ServiceKey: "service-key",
		Now: w.Now, Logger: slog.New(slog.DiscardHandler),
		OnFreshness: func(fresh bool) { w.edit(func() { w.changes = append(w.changes, fresh) }) },
	}
}

// start returns a Verifier that has the keys and no revocations yet.
func (w *world) start(t testing.TB, change func(*authverify.Config)) *authverify.Verifier {
	t.Helper()
	config := w.config()
	if change != nil {
		change(&config)
	}
	v, err := authverify.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// ready is start, with an empty snapshot: it returns the stream too.
func (w *world) ready(t testing.TB, change func(*authverify.Config)) (*authverify.Verifier, *stream) {
	t.Helper()
	v := w.start(t, change)
	s := w.next(t)
	s.send(t, v, complete(1))
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := v.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return v, s
}

// next is the next stream that is opened.
func (w *world) next(t testing.TB) *stream {
	t.Helper()
	select {
	case s := <-w.streams:
		return s
	case <-time.After(waitLimit):
		t.Fatal("no stream was opened")
		return nil
	}
}

// give hands a response to the stream, which need not take it.
func (s *stream) give(t testing.TB, resp *latchkeyv1.WatchRevocationsResponse) {
	t.Helper()
	select {
	case s.out <- resp:
	case <-s.gone:
		t.Fatal("the stream has ended")
	case <-time.After(waitLimit):
		t.Fatal("the stream does not take a response")
	}
}

// send gives a complete response and waits until v has taken it in: its head must be a new one.
func (s *stream) send(t testing.TB, v *authverify.Verifier, resp *latchkeyv1.WatchRevocationsResponse) {
	t.Helper()
	s.give(t, resp)
	eventually(t, "takes in the response", func() bool { return v.Position() == resp.GetHead() })
}

func (s *stream) fail(t testing.TB, err error) {
	t.Helper()
	select {
	case s.end <- err:
	case <-s.gone:
	case <-time.After(waitLimit):
		t.Fatal("the stream does not end")
	}
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.Now().Add(waitLimit)
	for !done() {
		if time.Now().After(limit) {
			t.Fatalf("the verifier never %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// wantVerdict checks what Verify says of token: nil for accepted.
func wantVerdict(t testing.TB, v *authverify.Verifier, token string, want error) {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	if !errors.Is(err, want) || (claims == nil) != (want != nil) {
		t.Errorf("got %v, %v, want %v", claims, err, want)
	}
}

// person is an account with a session, whose login was at position 5.
type person struct{ user, session uuid.UUID }

func newPerson(t testing.TB) person {
	t.Helper()
	return person{uuid.New(), uuid.New()}
}

// claims are those of a good token, to be changed by a test.
func (w *world) claims(p person) map[string]any {
	now := w.Now().Unix()
	return map[string]any{
		"iss": issuer, "aud": audience, "client_id": "app", "sub": p.user.String(), "sid": p.session.String(),
		"led": 5, "jti": uuid.NewString(), "iat": now, "exp": now + 600, "amr": []string{"pwd"},
	}
}

// token is a good one of p, signed by the key.
func (w *world) token(t testing.TB, p person) string {
	t.Helper()
	return w.sign(t, "k1", nil, w.claims(p))
}

// sign signs claims with the key called id, under a header changed as told.
func (w *world) sign(t testing.TB, id string, header, claims map[string]any) string {
	t.Helper()
	w.mu.Lock()
	key := w.keys[id]
	w.mu.Unlock()
	return key.sign(t, header, claims)
}

func (k testKey) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims(claims))
	unsigned.Header["typ"], unsigned.Header["kid"] = accesstoken.TokenType, k.jwk.KeyID
	maps.Copy(unsigned.Header, header)
	signed, err := unsigned.SigningString()
	if err != nil {
		t.Fatal(err)
	}
	signature := ed25519.Sign(k.private, []byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func sessionRow(position int64, p person) *latchkeyv1.Revocation {
	return &latchkeyv1.Revocation{
		Position: position, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION,
		UserId: p.user.String(), SessionId: p.session.String(),
	}
}

func keysChangedRow(position int64) *latchkeyv1.Revocation {
	return &latchkeyv1.Revocation{Position: position, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED}
}
