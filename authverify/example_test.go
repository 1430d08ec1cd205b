package authverify_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/latchkey-auth/latchkey/authverify"
	"github.com/latchkey-auth/latchkey/authverify/authverifytest"
)

// A verifier accepts a token until its session is revoked.
func ExampleVerifier_Verify() {
	issuer := authverifytest.Start() // in production: Latchkey
	defer issuer.Close()

	// In production: Issuer, Audience, Conn and ServiceKey.
	verifier, err := authverify.NewVerifier(issuer.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer verifier.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := verifier.Ready(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer issuer.Follow(verifier)()

	session := issuer.Claims()
	token := issuer.Issue(session)
	claims, err := verifier.Verify(ctx, token)
	fmt.Println(claims.UserID == session.UserID, err)

	issuer.RevokeSession(session.UserID, session.SessionID)
	_, err = verifier.Verify(ctx, token)
	fmt.Println(err)
	// Output:
	// true <nil>
	// access token: revoked
}

// A gRPC server whose methods need a token, but for those that declare otherwise.
func ExampleVerifier_UnaryInterceptor() {
	issuer := authverifytest.Start()
	defer issuer.Close()
	config := issuer.Config()
	config.PublicServices = []string{} // here health needs a token too
	verifier, err := authverify.NewVerifier(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer verifier.Close()
	defer issuer.Follow(verifier)()

	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(verifier.UnaryInterceptor()),
		grpc.ChainStreamInterceptor(verifier.StreamInterceptor()),
	)
	healthpb.RegisterHealthServer(server, greeter{})
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	conn, err := grpc.NewClient("passthrough:///example", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	client := healthpb.NewHealthClient(conn)

	_, err = client.Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(status.Code(err))

	token := issuer.Issue(authverify.Claims{UserID: uuid.MustParse("0197c2a4-1111-7abc-8def-0123456789ab")})
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
	_, err = client.Check(ctx, &healthpb.HealthCheckRequest{})
	fmt.Println(status.Convert(err).Message())
	// Output:
	// Unauthenticated
	// hello 0197c2a4-1111-7abc-8def-0123456789ab
}

// greeter knows who calls.
type greeter struct {
	healthpb.UnimplementedHealthServer
}

func (greeter) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	claims, _ := authverify.ClaimsFrom(ctx)
	return nil, status.Error(codes.Unimplemented, "hello "+claims.UserID.String())
}

// An HTTP handler that needs a token.
func ExampleVerifier_Middleware() {
	issuer := authverifytest.Start()
	defer issuer.Close()
	verifier, err := authverify.NewVerifier(issuer.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer verifier.Close()
	defer issuer.Follow(verifier)()

	orders := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := authverify.ClaimsFrom(r.Context())
		_, _ = fmt.Fprintf(w, "the orders of %s", claims.UserID)
	})
	server := httptest.NewServer(verifier.Middleware(orders))
	defer server.Close()

	get := func(token string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			fmt.Println(err)
			return
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(body))
	}
	get("")
	get(issuer.Issue(authverify.Claims{UserID: uuid.MustParse("0197c2a4-1111-7abc-8def-0123456789ab")}))
	// Output:
	// 401 Bearer realm="authverifytest" this needs an access token
	//
	// 200  the orders of 0197c2a4-1111-7abc-8def-0123456789ab
}
