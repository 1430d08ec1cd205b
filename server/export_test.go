package server

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// FillAfterwards takes every place of work after calls, until free is called.
func (s *Server) FillAfterwards() (free func()) { return s.afterwards.Fill() }

// SetPolicy gives a method another policy. Call it before the first call.
func (s *Server) SetPolicy(method string, policy *latchkeyv1.Policy) { s.policies[method] = policy }

// LoseMailer makes every use of the mailer panic.
func (s *Server) LoseMailer() {
	s.cfg.Mailer = nil
	s.wire()
}

// SetKeys makes the server know these keys of operators, and none of services.
func (s *Server) SetKeys(keys ...string) {
	s.cfg.AdminKeys, s.cfg.ServiceKeys = nil, nil
	for _, key := range keys {
		s.cfg.AdminKeys = append(s.cfg.AdminKeys, sha256.Sum256([]byte(key)))
	}
}

// Suspend is SuspendUser up to the wait: the position is what it waits for.
func (s *Server) Suspend(ctx context.Context, tx pgx.Tx, userID string) (position int64, err error) {
	id, err := uuid.Parse(userID)
	if err != nil {
		return 0, err
	}
	_, ended, err := s.accounts.ChangeStatus(ctx, tx, id, false, audit.UserSuspended)
	return ended.Position, err
}

// Policies is what the server read from the protos.
func (s *Server) Policies() map[string]*latchkeyv1.Policy { return s.policies }

// ReadPolicies is readPolicies without its type.
func ReadPolicies(services map[string]grpc.ServiceInfo) (map[string]*latchkeyv1.Policy, error) {
	return readPolicies(services)
}

// ParseTraceparent is parseTraceparent.
func ParseTraceparent(header string) (string, bool) { return parseTraceparent(header) }

// CallerID is the account of a call that authenticate let pass.
func CallerID(ctx context.Context) string {
	by, err := revoke.FromContext(ctx)
	if err != nil {
		return ""
	}
	return by.UserID.String()
}

// Authenticate is authenticate.
func (s *Server) Authenticate(ctx context.Context) (context.Context, error) {
	return s.authenticate(caller.With(ctx, callerOf(ctx, nil)))
}

// StatusOf is statusOf.
func StatusOf(err error) (code string, unforeseen bool) {
	st, unforeseen := statusOf(err, newCallID())
	return st.Code().String(), unforeseen
}

// DeadlineUnary is the middleware of the deadline, around a method that needs no more than its context.
func DeadlineUnary(ctx context.Context, handler grpc.UnaryHandler) (any, error) {
	c := &rpc{unaryHandler: handler}
	err := bounded(ctx, c)
	return c.response, err
}

// WithDeadline is withDeadline.
func WithDeadline(parent context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	return withDeadline(parent, deadline)
}

// CheckStores is checkStores.
func (s *Server) CheckStores(ctx context.Context) { s.checkStores(ctx, true) }

// ForgetDoubts ends what calls have met in the stores.
func (s *Server) ForgetDoubts() {
	s.ready.doubts.mu.Lock()
	defer s.ready.doubts.mu.Unlock()
	s.ready.doubts.postgresUntil, s.ready.doubts.redisUntil = time.Time{}, time.Time{}
}

// FloodKinds counts the kinds of log lines that are told apart.
func (s *Server) FloodKinds() int { return len(*s.flood.kinds.Load()) }

// HashesMade counts the passwords hashed so far, HashesInUse those being hashed.
func (s *Server) HashesMade() int { return int(s.cfg.Passwords.Stats().Hashed) }

// ForeignHashesMade counts those of other kinds than Argon2.
func (s *Server) ForeignHashesMade() int { return int(s.cfg.Passwords.Stats().Foreign) }

// HashesInUse is said at HashesMade.
func (s *Server) HashesInUse() int { return s.cfg.Passwords.Stats().InUse }

// PagesWith is a server that can do no more than make and read page tokens.
func PagesWith(key []byte) *Server { return &Server{cfg: Config{PageTokenKey: key}} }

// SealPage is sealPage.
func (s *Server) SealPage(purpose, owner string, at time.Time, id uuid.UUID) string {
	return s.sealPage(purpose, owner, at, id)
}

// OpenPage is openPage.
func (s *Server) OpenPage(purpose, owner, text string) (time.Time, uuid.UUID, error) {
	return s.openPage(purpose, owner, text)
}

// DetailOf is the detail of that type in what clients see of err; zero without one.
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

// UnaryChain is a method with all its middleware, as gRPC calls it.
func (s *Server) UnaryChain(method string, handler grpc.UnaryHandler) grpc.UnaryHandler {
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: method}
	return func(ctx context.Context, req any) (any, error) { return s.aroundUnary(ctx, req, info, handler) }
}

// Importing is how many imports are under way.
func (s *Server) Importing() int { return len(s.importing) }
