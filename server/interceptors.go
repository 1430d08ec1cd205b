package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/panics"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// maxCallTime bounds every unary call, whatever its client asked for.
	maxCallTime = 15 * time.Second
	// deadlineShave is kept back from the client's deadline, so that the answer that
	// says what did not finish still reaches it.
	deadlineShave = 50 * time.Millisecond
)

// unaryChain is in the order of the calls, outermost first. The trace id comes
// before the log that names it; log and metrics see the mapped status; recovery is
// inside the mapping, which turns a panic into "internal error"; who calls, and the
// address limit, are settled before what they say is looked at.
func (s *Server) unaryChain() []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		s.traceUnary,
		s.logUnary,
		s.rpcMetrics.UnaryServerInterceptor(),
		s.mapErrorsUnary,
		recoverUnary,
		deadlineUnary,
		s.policyUnary,
		s.validateUnary,
	}
}

// streamChain is unaryChain for streams, which have no deadline of ours.
func (s *Server) streamChain() []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{
		s.traceStream,
		s.logStream,
		s.rpcMetrics.StreamServerInterceptor(),
		s.mapErrorsStream,
		recoverStream,
		s.policyStream,
		s.validateStream,
	}
}

func (s *Server) traceUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := readCaller(ctx, s.cfg.TrustedProxies)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("trace-id", c.TraceID)) // fails only outside a call
	return handler(caller.With(ctx, c), req)
}

func (s *Server) logUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	start := s.cfg.Now()
	resp, err := handler(ctx, req)
	s.logCall(ctx, info.FullMethod, start, err)
	return resp, err
}

// logCall writes the access log. Requests and responses are never part of it:
// debug_redact does not protect what Go's String prints.
func (s *Server) logCall(ctx context.Context, method string, start time.Time, err error) {
	level := slog.LevelInfo
	if strings.HasPrefix(method, "/grpc.") {
		level = slog.LevelDebug // health and reflection: probes come every second or so, from every side
	}
	now, code := s.cfg.Now(), status.Code(err)
	if !s.cfg.Logger.Enabled(ctx, level) || !s.flood.allows(kind{accessLine, method, code}, now) {
		return
	}
	c := caller.From(ctx)
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("code", code.String()),
		slog.Float64("took_ms", float64(now.Sub(start).Microseconds())/1000),
		slog.String("address", c.AddressText()),
		slog.String("trace_id", c.TraceID),
		slog.String("call_id", c.CallID),
	}
	if id := c.UserID(); id != uuid.Nil {
		attrs = append(attrs, slog.String("user_id", id.String()))
	}
	if reason := reasonOf(err); reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	s.cfg.Logger.LogAttrs(ctx, level, accessLine, attrs...)
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func (s *Server) mapErrorsUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	return nil, s.mapError(ctx, info.FullMethod, err)
}

func (s *Server) mapError(ctx context.Context, method string, err error) error {
	c := caller.From(ctx)
	st, unforeseen := statusOf(err, c.TraceID)
	switch {
	case unforeseen:
		s.log.ErrorContext(ctx, "internal error", "method", method, "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	case st.Code() == codes.Unavailable && !isStreamEnd(err):
		s.ready.doubts.meet(err, clockNow())
		s.log.WarnContext(ctx, "store unavailable", "method", method, "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	}
	return st.Err()
}

func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer panics.Catch(&err)
	return handler(ctx, req)
}

func deadlineUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	now := time.Now() //nolint:forbidigo // contexts end by the machine's clock
	deadline := now.Add(maxCallTime)
	if sent, ok := ctx.Deadline(); ok && sent.Add(-deadlineShave).Before(deadline) {
		deadline = sent.Add(-deadlineShave)
	}
	if !now.Before(deadline) {
		return nil, status.Error(codes.DeadlineExceeded, "the deadline left no time to answer")
	}
	bounded, end := withDeadline(ctx, deadline)
	defer end()
	return handler(bounded, req)
}

func (s *Server) policyUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := s.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// enter applies a method's policy. The credential is read first, which asks no Redis,
// because a good one is not held up by the address limit's. The limit is told first all
// the same: somebody who guesses learns nothing once it is reached.
func (s *Server) enter(ctx context.Context, method string) (context.Context, error) {
	policy, ok := s.policies[method]
	if !ok {
		return nil, fmt.Errorf("no policy for %s", method)
	}
	entered, refused := s.identify(ctx, method, policy)
	soon := refused == nil
	if policy.GetAuth() == latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC {
		soon = policy.GetRevokes() // the credential is in the message
	}
	if err := s.admit(ctx, method, policy, soon); err != nil {
		return nil, err
	}
	return entered, refused
}

// identify checks the credential in the metadata. It asks PostgreSQL at the most.
func (s *Server) identify(ctx context.Context, method string, policy *latchkeyv1.Policy) (context.Context, error) {
	switch policy.GetAuth() {
	case latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC:
		return ctx, nil
	case latchkeyv1.AuthClass_AUTH_CLASS_SESSION:
		return s.authenticate(ctx)
	case latchkeyv1.AuthClass_AUTH_CLASS_ADMIN:
		return ctx, checkKey(ctx, s.cfg.AdminKeys)
	case latchkeyv1.AuthClass_AUTH_CLASS_SERVICE:
		return ctx, checkKey(ctx, s.cfg.AdminKeys, s.cfg.ServiceKeys)
	case latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED:
	}
	return nil, fmt.Errorf("%s: auth class %v is not served", method, policy.GetAuth())
}

func (s *Server) validateUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.checkMessage(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s *Server) checkMessage(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	if err := s.validator.Validate(msg); err != nil {
		return invalidRequest(err)
	}
	return nil
}

// invalidRequest turns violations into field violations. Their texts name rules,
// never values.
func invalidRequest(err error) error {
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return fmt.Errorf("validate: %w", err)
	}
	bad := &errdetails.BadRequest{}
	texts := make([]string, 0, len(invalid.Violations))
	for _, v := range invalid.Violations {
		field := protovalidate.FieldPathString(v.Proto.GetField())
		message := v.Proto.GetMessage()
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       field,
			Description: message,
			Reason:      strings.ToUpper(strings.ReplaceAll(v.Proto.GetRuleId(), ".", "_")),
		})
		texts = append(texts, field+": "+message)
	}
	return refusal.New(codes.InvalidArgument, latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, strings.Join(texts, "; "), bad)
}

// stream carries the context that the interceptors made.
type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream hands its context on by a method
}

// Context implements grpc.ServerStream.
func (s *stream) Context() context.Context { return s.ctx }

func (s *Server) traceStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := readCaller(ss.Context(), s.cfg.TrustedProxies)
	ss.SetTrailer(metadata.Pairs("trace-id", c.TraceID))
	ctx, done := s.boundStream(caller.With(ss.Context(), c))
	defer done()
	return handler(srv, &stream{ss, ctx})
}

func (s *Server) logStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	start := s.cfg.Now()
	err := handler(srv, ss)
	s.logCall(ss.Context(), info.FullMethod, start, err)
	return err
}

func (s *Server) mapErrorsStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := handler(srv, ss); err != nil {
		return s.mapError(ss.Context(), info.FullMethod, endOf(ss.Context(), err))
	}
	return nil
}

func recoverStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer panics.Catch(&err)
	return handler(srv, ss)
}

func (s *Server) policyStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := s.enter(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, &stream{ss, ctx})
}

// validatedStream checks each message that comes in.
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

func (s *Server) validateStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &validatedStream{ss, s})
}
