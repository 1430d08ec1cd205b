package authverify

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// streamCheckInterval is how soon a stream ends whose token has expired or was revoked, when no message
// passes meanwhile.
const streamCheckInterval = time.Second

// UnaryInterceptor checks the token of each call to a method that needs one, and puts its claims into the
// context, for ClaimsFrom. A method needs what the (latchkey.v1.policy) in its proto says: AUTH_CLASS_PUBLIC
// nothing, AUTH_CLASS_SESSION a token in the metadata, as `authorization: Bearer TOKEN`; any other class is
// refused. A method without a policy needs a token, unless Config.PublicServices names its service. A policy
// may also ask for a recent authentication (fresh_within) and for a second factor (factors: 2).
//
// Refusals are those of Latchkey: UNAUTHENTICATED with TOKEN_INVALID, TOKEN_EXPIRED or SESSION_ENDED,
// FAILED_PRECONDITION with FRESH_LOGIN_REQUIRED or FACTOR_REQUIRED, UNAVAILABLE with STORE_UNAVAILABLE.
func (v *Verifier) UnaryInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		found, err := v.authenticate(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		if found != nil {
			ctx = WithClaims(ctx, found.copyClaims())
		}
		return handler(ctx, req)
	}
}

// StreamInterceptor is UnaryInterceptor for streams. The token is checked again before each message that is
// sent or received, and each second: when it has expired, was revoked or can no longer be checked, the
// stream's context ends and receiving and sending fail with the refusal. A handler that is blocked in
// sending, since its client does not read, finds out when that ends. Whether the authentication is recent
// enough is checked when the stream begins, and not again.
func (v *Verifier) StreamInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		found, err := v.authenticate(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		if found == nil {
			return handler(srv, ss)
		}
		ctx, end := context.WithCancelCause(WithClaims(ss.Context(), found.copyClaims()))
		defer end(nil)
		guarded := &guardedStream{ServerStream: ss, ctx: ctx, end: end, check: func() error { return v.judge(found) }}
		go guarded.watch()
		err = handler(srv, guarded)
		if refused := guarded.refused(); err != nil && refused != nil {
			return refused // rather than that the context was canceled
		}
		return err
	}
}

// authenticate checks the credential of a call. It returns nil for a method that needs none.
func (v *Verifier) authenticate(ctx context.Context, method string) (*verified, error) {
	needs := v.requires(method)
	switch needs.credential {
	case needsNothing:
		return nil, nil //nolint:nilnil // no token was asked for, and there is no error
	case needsAnotherCredential:
		return nil, errOtherCredential(method)
	case needsToken:
	}
	md, _ := metadata.FromIncomingContext(ctx)
	var token string
	values := md.Get("authorization")
	if len(values) == 1 {
		token, _ = bearer(values[0])
	}
	if token == "" {
		return nil, newStatus(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID,
			"this method needs an access token: send the metadata authorization: Bearer TOKEN once")
	}
	found, err := v.check(ctx, token)
	if err != nil {
		v.cfg.Logger.DebugContext(ctx, "call refused", "method", method, "error", err)
		return nil, statusError(err)
	}
	if err := v.checkAuthentication(found, needs); err != nil {
		v.cfg.Logger.DebugContext(ctx, "call refused", "method", method, "error", err)
		return nil, err
	}
	return found, nil
}

// guardedStream is a stream that ends with its token.
type guardedStream struct {
	grpc.ServerStream
	ctx   context.Context //nolint:containedctx // grpc.ServerStream hands its context on by a method
	end   context.CancelCauseFunc
	check func() error
}

// refusedError is the cause with which a stream's context ends. It holds the status that the client receives.
type refusedError struct{ status error }

func (r *refusedError) Error() string { return r.status.Error() }

// Context implements grpc.ServerStream.
func (s *guardedStream) Context() context.Context { return s.ctx }

// watch checks the token again until the stream ends.
func (s *guardedStream) watch() {
	ticks := time.NewTicker(streamCheckInterval)
	defer ticks.Stop()
	for s.recheck() == nil {
		select {
		case <-ticks.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// recheck ends the stream if its token is no longer accepted, and returns the status that the client
// receives.
func (s *guardedStream) recheck() error {
	if refused := s.refused(); refused != nil {
		return refused
	}
	if err := s.check(); err != nil {
		s.end(&refusedError{statusError(err)})
	}
	return s.refused()
}

// refused is why the stream was ended, or nil.
func (s *guardedStream) refused() error {
	if cause, ok := context.Cause(s.ctx).(*refusedError); ok { //nolint:errorlint // nothing wraps it
		return cause.status
	}
	return nil
}

// RecvMsg implements grpc.ServerStream. It waits in a goroutine of its own, for the client may be silent for
// longer than the token lives; after an error m must not be used, as ever.
func (s *guardedStream) RecvMsg(m any) error {
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		if err != nil {
			return err
		}
		return s.recheck()
	case <-s.ctx.Done():
	}
	if refused := s.refused(); refused != nil {
		return refused
	}
	return <-received // the call itself has ended
}

// SendMsg implements grpc.ServerStream.
func (s *guardedStream) SendMsg(m any) error {
	if refused := s.recheck(); refused != nil {
		return refused
	}
	return s.ServerStream.SendMsg(m)
}
