// Package overhttp serves the services of a grpc-go server over net/http, in the protocols of Connect and gRPC-Web, with
// protobuf or JSON, and in gRPC itself: every unary method, and every stream of the server. The services and the
// interceptors are those of the gRPC server, so that limits, errors and logs are the same.
//
// gRPC's own ServeHTTP would speak only gRPC, at three times the processor time, and its GracefulStop cuts such calls
// off without a status.
package overhttp

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// streamWrite is how long a client of a stream may take to read one message.
const streamWrite = 30 * time.Second

// Services registers services at a gRPC server, and remembers them.
type Services struct {
	grpc.ServiceRegistrar

	all []registered
}

type registered struct {
	desc *grpc.ServiceDesc
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *Services) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.ServiceRegistrar.RegisterService(desc, impl)
	s.all = append(s.all, registered{desc, impl})
}

// Config says how services are served. All fields are required, unless their comments say otherwise.
type Config struct {
	// Unary and Stream are the interceptors of the gRPC server.
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// MaxMessage is the most bytes of a request, also after it was inflated.
	MaxMessage int
	// Around wraps the handler of each method.
	Around func(http.Handler) http.Handler
	// Serves says which methods are served. Nil: all are. Optional.
	Serves func(service, method string) bool
}

func (cfg Config) serves(service registered, method string) bool {
	return cfg.Serves == nil || cfg.Serves(service.desc.ServiceName, method)
}

// Mount adds a path for each method, /SERVICE/METHOD. It answers POST alone. Answers are not compressed: they hold
// tokens, and beside text that others choose, their compressed length would tell about them.
func (s *Services) Mount(mux *http.ServeMux, cfg Config) {
	all := connect.NewServer()
	streams := map[string]bool{}
	for _, service := range s.all {
		for i := range service.desc.Methods {
			if method := &service.desc.Methods[i]; cfg.serves(service, method.MethodName) {
				all.Register(cfg.unary(service, method))
			}
		}
		for i := range service.desc.Streams {
			if stream := &service.desc.Streams[i]; !stream.ClientStreams && cfg.serves(service, stream.StreamName) {
				method := cfg.stream(service, stream)
				all.Register(method)
				streams[method.Spec.Procedure] = true
			}
		}
	}
	connecthttp.Mount(wrapped{mux, cfg.Around, streams}, all, connecthttp.WithReadMaxBytes(cfg.MaxMessage), connecthttp.WithCompressMinBytes(math.MaxInt))
}

// unary returns a unary method. It has no idempotency level: with one, Connect would serve it by GET as well, with
// tokens in addresses, histories and logs.
func (cfg Config) unary(service registered, method *grpc.MethodDesc) connect.Method {
	name := "/" + service.desc.ServiceName + "/" + method.MethodName
	return connect.Method{
		Spec: connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: name},
		Handler: func(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
			c := newCall(ctx, name, stream)
			answer, err := method.Handler(service.impl, c.ctx, stream.Receive, cfg.Unary) //nolint:contextcheck // it is made of ctx
			if err != nil {
				return connectError(err)
			}
			return stream.Send(answer)
		},
	}
}

// stream returns a stream of the server.
func (cfg Config) stream(service registered, method *grpc.StreamDesc) connect.Method {
	name := "/" + service.desc.ServiceName + "/" + method.StreamName
	info := &grpc.StreamServerInfo{FullMethod: name, IsServerStream: true}
	return connect.Method{
		Spec: connect.Spec{StreamType: connect.StreamTypeServer, Procedure: name},
		Handler: func(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
			c := newCall(ctx, name, stream)
			c.release()
			return connectError(cfg.Stream(service.impl, c, info, method.Handler))
		},
	}
}

// call is a call in the forms of grpc-go: the stream of a stream, and what takes the headers and trailers of a unary
// call.
type call struct {
	ctx    context.Context //nolint:containedctx // grpc.ServerStream hands its context on by a method
	name   string
	stream connect.ServerStream
	info   *connect.CallInfo
	writer *http.ResponseController // nil if the call is unary
}

func newCall(ctx context.Context, name string, stream connect.ServerStream) *call {
	c := &call{name: name, stream: stream}
	c.info, _ = connect.CallInfoForServerContext(ctx)
	c.writer, _ = ctx.Value(writerKey{}).(*http.ResponseController)
	ctx = metadata.NewIncomingContext(ctx, metadataOf(c.info.RequestHeader()))
	if address, err := netip.ParseAddrPort(c.info.PeerAddr); err == nil {
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: net.TCPAddrFromAddrPort(address)})
	}
	c.ctx = grpc.NewContextWithServerTransportStream(ctx, unaryHeaders{c})
	return c
}

// metadataOf returns HTTP headers as gRPC has them: names in lower case, values of names that end in -bin decoded.
func metadataOf(headers *connect.Header) metadata.MD {
	all := make(metadata.MD, headers.Len())
	for name, values := range headers.All() {
		name = strings.ToLower(name)
		if strings.HasSuffix(name, "-bin") {
			for _, value := range values {
				if raw, err := connect.DecodeBinaryHeader(value); err == nil {
					all.Append(name, string(raw))
				}
			}
			continue
		}
		all[name] = values
	}
	return all
}

// addTo is the reverse of metadataOf.
func addTo(headers *connect.Header, all metadata.MD) {
	for name, values := range all {
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				value = connect.EncodeBinaryHeader([]byte(value))
			}
			headers.Add(name, value)
		}
	}
}

// Context implements grpc.ServerStream.
func (c *call) Context() context.Context { return c.ctx }

// SetHeader implements grpc.ServerStream.
func (c *call) SetHeader(all metadata.MD) error {
	addTo(c.info.ResponseHeader(), all)
	return nil
}

// SendHeader implements grpc.ServerStream.
func (c *call) SendHeader(all metadata.MD) error {
	addTo(c.info.ResponseHeader(), all)
	return c.stream.SendHeaders()
}

// SetTrailer implements grpc.ServerStream.
func (c *call) SetTrailer(all metadata.MD) { addTo(c.info.ResponseTrailer(), all) }

// RecvMsg implements grpc.ServerStream.
func (c *call) RecvMsg(m any) error { return c.stream.Receive(m) }

// SendMsg implements grpc.ServerStream.
func (c *call) SendMsg(m any) error {
	//nolint:forbidigo // deadlines of connections follow the machine's clock
	if err := c.writer.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	defer c.release()
	return c.stream.Send(m)
}

// release takes the deadline for writing away: a stream may say nothing for longer than a page takes.
func (c *call) release() {
	_ = c.writer.SetWriteDeadline(time.Time{}) // the next write fails if the connection has
}

// unaryHeaders implements grpc.ServerTransportStream.
type unaryHeaders struct{ *call }

// Method implements grpc.ServerTransportStream.
func (h unaryHeaders) Method() string { return h.name }

// SetTrailer implements grpc.ServerTransportStream.
func (h unaryHeaders) SetTrailer(all metadata.MD) error {
	h.call.SetTrailer(all)
	return nil
}

// connectError returns an error with the code, the message and the details that the gRPC listener would send. Other
// errors would reach the client as "unknown".
func connectError(err error) error {
	if err == nil || errors.As(err, new(*connect.Error)) {
		return err // Connect's own: the message was malformed or too large
	}
	st := status.Convert(err).Proto()
	mapped := connect.NewError(connect.Code(st.GetCode()), st.GetMessage()) //nolint:gosec // G115: codes go up to 16
	for _, detail := range st.GetDetails() {
		name := detail.GetTypeUrl()
		mapped = mapped.WithDetail(&connect.ErrorDetail{Type: name[strings.LastIndexByte(name, '/')+1:], Value: detail.GetValue()})
	}
	return mapped
}

// writerKey is the key of the *http.ResponseController in the context of a stream's request.
type writerKey struct{}

// wrapped implements connecthttp.ServeMux.
type wrapped struct {
	mux     *http.ServeMux
	around  func(http.Handler) http.Handler
	streams map[string]bool
}

// Handle implements connecthttp.ServeMux. Unary calls are spared the copy of the request that another context takes.
func (m wrapped) Handle(pattern string, handler http.Handler) {
	if m.streams[pattern] {
		inner := handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), writerKey{}, http.NewResponseController(w))))
		})
	}
	m.mux.Handle(pattern, m.around(handler))
}
