package server

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"google.golang.org/grpc"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// FillAfterwards takes every place for work after calls, until free is called.
func (s *Server) FillAfterwards() (free func()) { return s.cfg.Afterwards.Fill() }

// SetPolicy gives a method another policy. Call it before the first call.
func (s *Server) SetPolicy(method string, policy *latchkeyv1.Policy) { s.policies[method] = policy }

// PanicIn makes every call of a method panic in place of its handler.
func (s *Server) PanicIn(method string) {
	s.middleware = append(slices.Clone(s.middleware), middleware{run: func(ctx context.Context, c *rpc) error {
		if c.method == method {
			panic("a fault of the handler")
		}
		return c.next(ctx)
	}})
}

// SetKeys sets the keys of operators, and no keys of services.
func (s *Server) SetKeys(keys ...string) {
	s.cfg.Keys = Keys{}
	for _, key := range keys {
		s.cfg.Keys.Admin = append(s.cfg.Keys.Admin, sha256.Sum256([]byte(key)))
	}
}

// Policies returns the policies that the server read from the protos.
func (s *Server) Policies() map[string]*latchkeyv1.Policy { return s.policies }

// ReadPolicies is readPolicies without its type.
func ReadPolicies(services map[string]grpc.ServiceInfo) (map[string]*latchkeyv1.Policy, error) {
	return readPolicies(services)
}

// ParseTraceparent calls parseTraceparent.
func ParseTraceparent(header string) (string, bool) { return parseTraceparent(header) }

// CallerID returns the account of a call that authenticate has accepted.
func CallerID(ctx context.Context) string {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return ""
	}
	return by.UserID.String()
}

// Authenticate calls authenticate.
func (s *Server) Authenticate(ctx context.Context) (context.Context, error) {
	return s.authenticate(caller.With(ctx, callerOf(ctx, nil)), &latchkeyv1.Policy{})
}

// StatusOf calls statusOf.
func StatusOf(err error) (code string, unforeseen bool) {
	st, unforeseen := statusOf(err, newCallID())
	return st.Code().String(), unforeseen
}

// DeadlineUnary runs the middleware of the deadline around a method that needs only its context.
func DeadlineUnary(ctx context.Context, handler grpc.UnaryHandler) (any, error) {
	c := &rpc{unaryHandler: handler}
	err := bounded(ctx, c)
	return c.response, err
}

// WithDeadline calls withDeadline.
func WithDeadline(parent context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	return withDeadline(parent, deadline)
}

// CheckStores calls checkStores.
func (s *Server) CheckStores(ctx context.Context) { s.checkStores(ctx, true) }

// DropDoubts forgets the errors of stores that calls have met.
func (s *Server) DropDoubts() {
	s.ready.doubts.mu.Lock()
	defer s.ready.doubts.mu.Unlock()
	s.ready.doubts.postgresUntil, s.ready.doubts.redisUntil = time.Time{}, time.Time{}
}

// FloodKinds counts the kinds of log lines.
func (s *Server) FloodKinds() int { return len(*s.cfg.Log.flood.kinds.Load()) }

// HashesMade counts the passwords that were hashed.
func (s *Server) HashesMade() int { return int(s.cfg.Passwords.Stats().Hashed) }

// ForeignHashesMade counts the hashes of other kinds than Argon2.
func (s *Server) ForeignHashesMade() int { return int(s.cfg.Passwords.Stats().Foreign) }

// HashesInUse counts the passwords that are being hashed.
func (s *Server) HashesInUse() int { return s.cfg.Passwords.Stats().InUse }

// DetailOf returns the detail of type T that clients see in err, or the zero value.
func DetailOf[T any](err error) T {
	st, _ := statusOf(err, newCallID())
	for _, detail := range st.Details() {
		if d, ok := detail.(T); ok {
			return d
		}
	}
	var none T
	return none
}

// UnaryChain returns a method with all its middleware, as gRPC calls it.
func (s *Server) UnaryChain(method string, handler grpc.UnaryHandler) grpc.UnaryHandler {
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: method}
	return func(ctx context.Context, req any) (any, error) { return s.aroundUnary(ctx, req, info, handler) }
}

// InvalidRequest returns the refusal of a request with violations.
func InvalidRequest(err error) error { return invalidRequest(err) }
