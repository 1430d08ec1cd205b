package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
)

const handshakeFailed = "TLS handshake failed"

// loggedTLS logs handshakes that fail, which gRPC does not. Nothing else shows a proxy that does not speak HTTP/2 to
// its upstream (no ALPN h2), or does not trust the certificate.
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
			level = slog.LevelDebug // a probe that only checks whether the port is open
		}
		l.log.Log(context.Background(), level, handshakeFailed, "listener", "grpc", "peer", raw.RemoteAddr().String(), "error", err)
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (l loggedTLS) Clone() credentials.TransportCredentials {
	return loggedTLS{l.TransportCredentials.Clone(), l.log}
}

// HTTPErrors returns a handler for the ErrorLog of a net/http server, under the name of the listener. It logs
// handshakes that fail in the same way as those of gRPC, and the rest, which is rare, as warnings. Lines of one kind
// are limited like all others.
func (s *Server) HTTPErrors(listener string) slog.Handler {
	return httpErrors{s.log.Handler(), listener}
}

type httpErrors struct {
	slog.Handler
	listener string
}

// Enabled implements slog.Handler. The level is known only when the line is.
func (httpErrors) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h httpErrors) Handle(ctx context.Context, line slog.Record) error {
	attrs := []slog.Attr{slog.String("listener", h.listener)}
	level, message := slog.LevelWarn, "HTTP server"
	peer, reason, ok := strings.Cut(strings.TrimPrefix(line.Message, "http: TLS handshake error from "), ": ")
	switch {
	case ok && strings.HasPrefix(line.Message, "http: TLS handshake error from "):
		message = handshakeFailed
		attrs = append(attrs, slog.String("peer", peer), slog.String("error", reason))
		if reason == io.EOF.Error() {
			level = slog.LevelDebug
		}
	case strings.HasPrefix(line.Message, "http: panic serving"):
		level = slog.LevelError
		fallthrough
	default:
		attrs = append(attrs, slog.String("problem", line.Message))
	}
	if !h.Handler.Enabled(ctx, level) {
		return nil
	}
	record := slog.NewRecord(line.Time, level, message, 0)
	record.AddAttrs(attrs...)
	return h.Handler.Handle(ctx, record)
}
