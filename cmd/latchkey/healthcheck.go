package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

// healthTimeout is shorter than the usual interval of a container's health check.
const healthTimeout = 3 * time.Second

func healthcheck(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("healthcheck", args); err != nil {
		return err
	}
	cfg, err := app.LoadSettings(environ, config.Tool)
	if err != nil {
		return err
	}
	target := localAddr(cfg.GRPCAddr)
	transport := insecure.NewCredentials()
	if cfg.TLSCertFile != "" {
		// The check asks a process on this machine and sends no secret. The certificate is for the public
		// host, not for 127.0.0.1.
		transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) //nolint:gosec // G402: see above
	}
	conn, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(transport))
	if err != nil {
		return fmt.Errorf("health of %s: %w", target, err)
	}
	defer conn.Close() //nolint:errcheck // the answer is in
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("health of %s: %w", target, err)
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health of %s: %s", target, answer.GetStatus())
	}
	_, err = fmt.Fprintln(stdout, answer.GetStatus())
	return err
}

// localAddr returns the address at which this machine reaches a listener on addr.
func localAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
