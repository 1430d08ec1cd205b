// Command example shows a small service of your own: gRPC and HTTP behind Latchkey's access tokens, which authverify
// checks in the process of the service.
//
// Start Latchkey, and this beside it. `latchkey dev` makes a service key, and prints its folder when it starts:
//
//	go run ./cmd/latchkey dev
//	go run ./authverify/example -key-file FOLDER/service-key
//
// Sign up and log in as the README says, and call with the access token:
//
//	curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9081/whoami
//	go tool -modfile=tools/go.mod grpcurl -plaintext -H "Authorization: Bearer $TOKEN" \
//	  127.0.0.1:9080 grpc.health.v1.Health/Check
//
// Log out (or reset the password, or suspend the account), and call again: within milliseconds the answers are 401 and
// UNAUTHENTICATED. Stop Latchkey, and ten seconds later they are 503 and UNAVAILABLE.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/latchkey-auth/latchkey/authverify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options has the settings from the command line.
type options struct {
	latchkey, issuer, audience, keyFile string
	grpcAddr, httpAddr                  string
	failOpen                            bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("example", flag.ContinueOnError)
	flags.StringVar(&o.latchkey, "latchkey", "127.0.0.1:50051", "Latchkey's gRPC listener")
	flags.StringVar(&o.issuer, "issuer", "http://127.0.0.1:8080", "LATCHKEY_ISSUER, under which the keys are")
	flags.StringVar(&o.audience, "audience", "latchkey", "LATCHKEY_AUDIENCE")
	flags.StringVar(&o.keyFile, "key-file", "", "a file with a service key (needed)")
	flags.StringVar(&o.grpcAddr, "grpc", "127.0.0.1:9080", "where this serves gRPC")
	flags.StringVar(&o.httpAddr, "http", "127.0.0.1:9081", "where this serves HTTP")
	flags.BoolVar(&o.failOpen, "fail-open", false, "go on by signatures while Latchkey cannot be reached")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.keyFile == "" {
		return o, errors.New("-key-file is needed: a file with a service key, such as the service-key of `latchkey dev`")
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(o.keyFile)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(o.latchkey,
		// Plaintext is only for `latchkey dev` on this machine. Elsewhere use TLS, because the service key is sent
		// here.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A connection that died silently is noticed within 13 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}))
	if err != nil {
		return err
	}
	defer conn.Close()                                         //nolint:errcheck // nothing is written that could be lost
	verifier, err := authverify.NewVerifier(authverify.Config{ //nolint:contextcheck // it runs until Close
		Issuer: o.issuer, Audience: o.audience, FailOpen: o.failOpen,
		Conn: conn, ServiceKey: string(bytes.TrimSpace(key)),
		// This program serves only health, so it requires a token even for health. A real service does not set
		// PublicServices: then health needs no token.
		PublicServices: []string{"grpc.reflection.v1.ServerReflection"},
	})
	if err != nil {
		return err
	}
	defer verifier.Close()
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := verifier.Ready(waiting); err != nil {
		return err
	}
	return serve(ctx, o, verifier)
}

// serve serves gRPC and HTTP until ctx ends or one of them fails.
func serve(ctx context.Context, o options, verifier *authverify.Verifier) error {
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(verifier.UnaryInterceptor()),
		grpc.ChainStreamInterceptor(verifier.StreamInterceptor()), //nolint:contextcheck // each stream has its own
	)
	healthpb.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	mux := http.NewServeMux()
	mux.Handle("GET /whoami", verifier.Middleware(http.HandlerFunc(whoAmI)))
	pages := &http.Server{Addr: o.httpAddr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}

	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", o.grpcAddr)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- pages.ListenAndServe() }()
	slog.Info("serving", "grpc", o.grpcAddr, "http", o.httpAddr)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	server.Stop()
	return errors.Join(err, pages.Close())
}

// whoAmI returns claims of the caller's token.
func whoAmI(w http.ResponseWriter, r *http.Request) {
	claims, _ := authverify.ClaimsFrom(r.Context()) // the middleware has put them there
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{
		"user_id": claims.UserID, "session_id": claims.SessionID, "expires": claims.ExpireTime,
	}); err != nil {
		slog.Debug("writing an answer", "error", err)
	}
}
