package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/inbound"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// connectionAge makes clients dial again, so that they find new replicas. gRPC tells
	// them (GOAWAY) at this age, give or take a tenth: new calls take a new connection, and
	// what is under way has until connectionGrace to end.
	connectionAge = 50 * time.Minute
	// streamEndRetry is when the client of a stream that ended as planned may open it again.
	streamEndRetry = 100 * time.Millisecond
)

// connectionGrace is how long after its GOAWAY a connection is kept for what is under way.
// It is closed at 1.3 times the age or later: the streams have ended themselves by then.
func connectionGrace(age time.Duration) time.Duration { return age * 2 / 5 }

// streamEnd is the age of a connection at which a stream on it ends itself: after the
// latest GOAWAY, at 1.1 times the age, so that the client's next stream finds a new
// connection, and well before the earliest close, at 1.3 times. A connection has up to 128
// streams: spread out, they do not all come back at once. For the age of 50 minutes that
// is between 55.5 and 58.5 minutes.
func streamEnd(age time.Duration) time.Duration {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	return age*111/100 + age*6/100*time.Duration(binary.NativeEndian.Uint16(random[:]))/(1<<16)
}

// boundStream returns a context for a stream that ends with errStreamEnded at a drain, as
// a stream that nobody ends would use up the time for it, and when the connection has grown
// old. gRPC would end them too, with codes that no contract names: a proxy in between makes
// INTERNAL or UNKNOWN of a connection that is closed under a stream.
func (s *Server) boundStream(ctx context.Context) (bounded context.Context, done func()) {
	bounded, end := context.WithCancelCause(ctx)
	planned := func() { end(errStreamEnded()) }
	forget := context.AfterFunc(s.draining, planned)
	began, ok := inbound.Began(ctx)
	if !ok {
		return bounded, func() { forget(); end(nil) }
	}
	old := time.AfterFunc(time.Until(began.Add(streamEnd(s.cfg.ConnectionAge))), planned)
	return bounded, func() { forget(); old.Stop(); end(nil) }
}

// endOf is what a stream has ended with: err, or the planned end where err only says that
// the context is over.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); isStreamEnd(cause) && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled) {
		return cause
	}
	return err
}

func errStreamEnded() error {
	return refusal.New(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STREAM_ENDED,
		"the replica stops or the connection has grown old: open the stream again", refusal.RetryInfo(streamEndRetry))
}

func isStreamEnd(err error) bool {
	end, ok := errors.AsType[*refusal.Error](err)
	return ok && end.Reason == latchkeyv1.ErrorReason_ERROR_REASON_STREAM_ENDED
}
