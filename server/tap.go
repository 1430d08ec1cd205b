package server

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// forwardedEvery is how often the log may mention a proxy that is not trusted.
const forwardedEvery = time.Hour

// onHeaders sees a call when its headers are here and its message is not. It runs in the goroutine that reads the
// connection, so it must not wait.
func (s *Server) onHeaders(ctx context.Context, info *tap.Info) (context.Context, error) {
	if size := sizeOf(info.Header); size > maxHeaders {
		s.log.WarnContext(ctx, "a call with too much metadata was refused", "method", s.knownMethod(info.FullMethodName), "peer", peerAddress(ctx).String(),
			"bytes", size, "most", maxHeaders)
		return ctx, status.Errorf(codes.ResourceExhausted, "the metadata of the call has over %d KiB", maxHeaders>>10)
	}
	if _, forwarded := info.Header["x-forwarded-for"]; forwarded {
		s.forwarded.saw(ctx, s)
	}
	if info.FullMethodName != latchkeyv1.AuthService_ValidateToken_FullMethodName {
		// A validation takes microseconds and must not wait for a crowd of longer calls. Each call gets a goroutine, and
		// Go runs goroutines in the order in which they became ready. So the goroutine that reads a connection lets the ready
		// ones run before it reads the next call: then the line is as long as there are connections, not calls.
		runtime.Gosched()
	}
	in, ok := s.intakes[info.FullMethodName]
	if !ok || in.bulk && knownKey(bearer(ctx), s.cfg.Keys.Admin) {
		return ctx, nil // gRPC does not know the method, or it is for operators and has its own limit
	}
	return s.guard.Await(ctx, info.Header, in.limit, in.within), nil
}

// sizeOf returns the size of a header list as RFC 9113, section 6.5.2, counts it.
func sizeOf(headers metadata.MD) int {
	const overhead = 32
	size := 0
	for name, values := range headers {
		for _, value := range values {
			size += len(name) + len(value) + overhead
		}
	}
	return size
}

// knownMethod returns a name of a method that may be logged. Strangers must not choose which kinds of lines there are.
func (s *Server) knownMethod(name string) string {
	if _, ok := s.intakes[name]; ok {
		return name
	}
	return ""
}

// intake is how much the clients of a method may send.
type intake struct {
	limit  int           // in bytes
	within time.Duration // 0: the arrival time
	bulk   bool          // operators may send more
}

func readIntakes(services map[string]grpc.ServiceInfo) map[string]intake {
	all := map[string]intake{}
	public := publicServices()
	for name, info := range services {
		for _, method := range info.Methods {
			in := intake{limit: maxMessage, bulk: method.IsClientStream}
			if public[name] && method.IsClientStream {
				in = intake{limit: maxReflection, within: reflectionTime}
			}
			all["/"+name+"/"+method.Name] = in
		}
	}
	return all
}

// unheardProxies reports proxies that operators forgot to trust.
type unheardProxies struct {
	told atomic.Int64 // when, in Unix seconds
}

// saw looks at a call with x-forwarded-for. Anybody can send the header. But a peer on loopback or in a private network
// that sends it is a proxy. As long as it is not trusted, all its clients share one address, and the limits of one.
func (u *unheardProxies) saw(ctx context.Context, s *Server) {
	peer := peerAddress(ctx)
	if !peer.IsLoopback() && !peer.IsPrivate() && !peer.IsLinkLocalUnicast() || contains(s.cfg.TrustedProxies, peer) {
		return
	}
	told, now := u.told.Load(), s.cfg.Now().Unix()
	if told != 0 && now-told < int64(forwardedEvery/time.Second) || !u.told.CompareAndSwap(told, now) {
		return
	}
	s.log.WarnContext(ctx, "x-forwarded-for of a peer that is not trusted: its clients are counted, and kept in the audit trail, under its address",
		"peer", peer.String(), "setting", "LATCHKEY_TRUSTED_PROXIES")
}
