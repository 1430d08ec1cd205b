package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/panics"
)

const (
	// maxCallTime limits every unary call, even if its client allows more.
	maxCallTime = 15 * time.Second
	// deadlineShave is subtracted from the client's deadline, so that an answer about a call that took too long still
	// reaches the client.
	deadlineShave = 50 * time.Millisecond
)

// stage names a middleware.
type stage string

const (
	stageCaller   stage = "caller"
	stageLog      stage = "log"
	stageMetrics  stage = "metrics"
	stageErrors   stage = "errors"
	stageRecovery stage = "recovery"
	stageDeadline stage = "deadline"
	stagePolicy   stage = "policy"
	stageMessages stage = "messages"
)

// middleware is one step around every call, unary or stream. It calls next of the call once, or refuses the call.
type middleware struct {
	stage stage
	// within are the stages that must be further out. Comments in the chain say why.
	within []stage
	run    func(ctx context.Context, c *rpc) error
}

// chain returns the middleware in the order of a call, outermost first. checkChain checks the order.
func (s *Server) chain() []middleware {
	return []middleware{
		{stageCaller, nil, s.readCaller},
		// The line has the trace id.
		{stageLog, []stage{stageCaller}, s.logged},
		{stageMetrics, []stage{stageCaller}, s.measured},
		// Log and metrics need the mapped status.
		{stageErrors, []stage{stageLog, stageMetrics}, s.mapErrors},
		// The mapping turns a panic into "internal error".
		{stageRecovery, []stage{stageErrors}, recovered},
		// A call after its deadline is refused in the form of the contract, and a panic in this stage is caught.
		{stageDeadline, []stage{stageErrors, stageRecovery}, bounded},
		// It asks the stores, within the deadline.
		{stagePolicy, []stage{stageCaller, stageRecovery, stageDeadline}, s.admitted},
		// The caller and the address limit are checked before the message is read.
		{stageMessages, []stage{stageErrors, stagePolicy}, s.validated},
	}
}

// checkChain returns an error if a stage is missing from the chain, is in it twice, or is further out than a stage that
// must be outside of it. A server with such a chain must not start.
func checkChain(chain []middleware) error {
	outer := map[stage]bool{}
	for _, m := range chain {
		for _, needed := range m.within {
			if !outer[needed] {
				return fmt.Errorf("middleware: %q must be within %q", m.stage, needed)
			}
		}
		if outer[m.stage] {
			return fmt.Errorf("middleware: %q is in the chain twice", m.stage)
		}
		outer[m.stage] = true
	}
	for _, needed := range []stage{
		stageCaller, stageLog, stageMetrics, stageErrors, stageRecovery, stageDeadline, stagePolicy, stageMessages,
	} {
		if !outer[needed] {
			return fmt.Errorf("middleware: %q is not in the chain", needed)
		}
	}
	return nil
}

// rpc is one call on its way through the chain. Only one goroutine uses it.
type rpc struct {
	method string
	rest   []middleware // the stages further in
	server any

	// Of a unary call.
	request, response any
	unaryHandler      grpc.UnaryHandler

	// Of a stream. Middleware may wrap it.
	stream        grpc.ServerStream // nil if the call is unary
	streamHandler grpc.StreamHandler
}

// next runs the stage further in, and at the end the handler.
func (c *rpc) next(ctx context.Context) (err error) {
	if len(c.rest) > 0 {
		m := c.rest[0]
		c.rest = c.rest[1:]
		return m.run(ctx, c)
	}
	if c.stream != nil {
		return c.streamHandler(c.server, &stream{c.stream, ctx})
	}
	c.response, err = c.unaryHandler(ctx, c.request)
	return err
}

// aroundUnary is the interceptor of all unary calls.
func (s *Server) aroundUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := &rpc{method: info.FullMethod, rest: s.middleware, request: req, unaryHandler: handler}
	if err := c.next(ctx); err != nil {
		return nil, err
	}
	return c.response, nil
}

// aroundStream is the interceptor of all streams.
func (s *Server) aroundStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := &rpc{method: info.FullMethod, rest: s.middleware, server: srv, stream: ss, streamHandler: handler}
	return c.next(ss.Context())
}

// stream is a stream with the context from the middleware.
type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream hands its context on by a method
}

// Context implements grpc.ServerStream.
func (s *stream) Context() context.Context { return s.ctx }

// readCaller reads the data about the caller, and makes streams end as planned.
func (s *Server) readCaller(ctx context.Context, c *rpc) error {
	from := callerOf(ctx, s.cfg.TrustedProxies)
	trailer := metadata.Pairs("trace-id", from.TraceID)
	if c.stream == nil {
		_ = grpc.SetTrailer(ctx, trailer) // fails only outside a call
		return c.next(caller.With(ctx, from))
	}
	c.stream.SetTrailer(trailer)
	ctx, done := s.boundStream(caller.With(ctx, from))
	defer done()
	return c.next(ctx)
}

func (s *Server) logged(ctx context.Context, c *rpc) error {
	start := s.cfg.Now()
	err := c.next(ctx)
	s.logCall(ctx, c.method, start, err)
	return err
}

func (s *Server) mapErrors(ctx context.Context, c *rpc) error {
	err := c.next(ctx)
	if err == nil {
		return nil
	}
	if c.stream != nil {
		err = endOf(ctx, err)
	}
	return s.mapError(ctx, c.method, err)
}

func recovered(ctx context.Context, c *rpc) (err error) {
	defer panics.Catch(&err)
	return c.next(ctx)
}

// bounded gives unary calls a deadline. Streams get none.
func bounded(ctx context.Context, c *rpc) error {
	if c.stream != nil {
		return c.next(ctx)
	}
	now := time.Now() //nolint:forbidigo // contexts end by the machine's clock
	deadline := now.Add(maxCallTime)
	if sent, ok := ctx.Deadline(); ok && sent.Add(-deadlineShave).Before(deadline) {
		deadline = sent.Add(-deadlineShave)
	}
	if !now.Before(deadline) {
		return status.Error(codes.DeadlineExceeded, "the deadline left no time to answer")
	}
	ctx, end := withDeadline(ctx, deadline)
	defer end()
	return c.next(ctx)
}

func (s *Server) admitted(ctx context.Context, c *rpc) error {
	ctx, err := s.enter(ctx, c.method)
	if err != nil {
		return err
	}
	return c.next(ctx)
}

// validated checks the message of a unary call, and each message that a client sends on a stream.
func (s *Server) validated(ctx context.Context, c *rpc) error {
	if c.stream != nil {
		c.stream = &validatedStream{c.stream, s}
		return c.next(ctx)
	}
	if err := s.checkMessage(c.request); err != nil {
		return err
	}
	return c.next(ctx)
}

// validatedStream checks each message that the client sends.
type validatedStream struct {
	grpc.ServerStream
	server *Server
}

// RecvMsg implements grpc.ServerStream.
func (v *validatedStream) RecvMsg(m any) error {
	if err := v.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return v.server.checkMessage(m)
}

func (s *Server) checkMessage(m any) error {
	msg, ok := m.(proto.Message)
	if !ok || isPlainlyValid(msg) {
		return nil
	}
	if err := s.validator.Validate(msg); err != nil {
		return invalidRequest(err)
	}
	return nil
}

// isPlainlyValid returns true only for a message that keeps the rules of its proto, checked by lengths alone. It spares
// the calls that come most often the validator, which reads the message by reflection: 4% of the processor time of a
// validation, 19% of that of a login that is turned away for overload. For false, the validator decides and words the
// refusal. TestPlainlyValid holds it to the rules.
func isPlainlyValid(m proto.Message) bool {
	switch req := m.(type) {
	case *latchkeyv1.ValidateTokenRequest:
		return has(req.GetAccessToken(), 1, accesstoken.MaxTokenBytes)
	case *latchkeyv1.LoginRequest:
		return has(req.GetEmail(), 1, 255) && !strings.Contains(req.GetEmail(), "\x00") &&
			has(req.GetPassword(), 1, 128) && !strings.Contains(req.GetPassword(), "\x00") &&
			has(req.GetDeviceName(), 0, 100) && isPrintable(req.GetDeviceName()) &&
			has(req.GetDeviceToken(), 0, 256)
	}
	return false
}

// has reports whether a text has that many bytes. It never has more characters than bytes.
func has(text string, least, most int) bool { return least <= len(text) && len(text) <= most }

// isPrintable reports whether a text has only printable ASCII.
func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
