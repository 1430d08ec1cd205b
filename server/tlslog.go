package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
)

// loggedTLS logs handshakes that fail, which gRPC keeps to itself: a proxy that speaks no HTTP/2 to its upstream (no
// ALPN h2) or does not trust the certificate is seen nowhere else.
type loggedTLS struct {
	credentials.TransportCredentials
	log *slog.Logger
}

// ServerHandshake implements credentials.TransportCredentials.
func (l loggedTLS) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, io.EOF) {
			level = slog.LevelDebug // a probe that only looks whether somebody listens
		}
		l.log.Log(context.Background(), level, "TLS handshake failed", "listener", "grpc", "peer", raw.RemoteAddr().String(), "error", err)
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (l loggedTLS) Clone() credentials.TransportCredentials {
	return loggedTLS{l.TransportCredentials.Clone(), l.log}
}
