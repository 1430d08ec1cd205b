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
	// connectionAge makes clients dial again, so that they find new replicas. At this age, plus or minus a tenth, gRPC
	// sends GOAWAY: new calls take a new connection, and running calls may continue for connectionGrace.
	connectionAge = 50 * time.Minute
	// streamEndRetry is when a client may open a stream again that ended as planned.
	streamEndRetry = 100 * time.Millisecond
)

// connectionGrace is how long a connection is kept after its GOAWAY for running calls. It is closed at 1.3 times the
// age or later. The streams have ended before that.
func connectionGrace(age time.Duration) time.Duration { return age * 2 / 5 }

// streamEnd returns the age of a connection at which a stream on it ends itself. That is after the latest GOAWAY, at
// 1.1 times the age, so that the client's next stream takes a new connection. It is well before the earliest close, at
// 1.3 times. A connection has up to 128 streams. Their ends are spread out, so that they do not all return at once. For
// the age of 50 minutes they are between 55.5 and 58.5 minutes.
func streamEnd(age time.Duration) time.Duration {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	return age*111/100 + age*6/100*time.Duration(binary.NativeEndian.Uint16(random[:]))/(1<<16)
}

// boundStream returns a context for a stream. It ends with errStreamEnded when the server drains, because the stream
// would otherwise use up the time for that, and when the connection is old. gRPC would end such streams too, but with
// codes that no contract has: if a connection is closed under a stream, a proxy turns that into INTERNAL or UNKNOWN.
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

// endOf returns the end of a stream: err, or the planned end if err only says that the context has ended.
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
