// Package revocations serves latchkey.v1.RevocationService.
package revocations

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/strict"
)

const (
	// watchBatch is the contract's limit for one response: about 50 KiB.
	watchBatch = 500
	// silenceTime is how long a watcher is kept without a message. After that another replica may know more.
	silenceTime = 5 * time.Second
)

// Service implements latchkey.v1.RevocationService. All fields are required.
type Service struct {
	latchkeyv1.UnimplementedRevocationServiceServer

	Ledger *ledger.Ledger
}

// WatchRevocations implements latchkey.v1.RevocationService. All watchers read one log in memory, each from its own
// position. A slow watcher holds up no other and costs no more than a fast one.
func (s *Service) WatchRevocations(
	req *latchkeyv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[latchkeyv1.WatchRevocationsResponse],
) error {
	after, err := parseCursor(req.GetCursor())
	if err != nil {
		return err
	}
	silence := time.NewTimer(silenceTime)
	defer silence.Stop()
	ctx := stream.Context()
	for waited := false; ; waited = true {
		if ctx.Err() != nil {
			return watchEnd(ctx)
		}
		// Trusted is called before ReadAfter, which then returns every row that the lease covers.
		trusted := s.Ledger.Trusted()
		read, err := s.Ledger.ReadAfter(after, watchBatch)
		// The cursor may be from a replica that is a moment ahead of this one. Then it is good after the next confirm.
		// Otherwise it never is.
		ahead := after.Seq > read.Head.Seq && !waited
		if errors.Is(err, ledger.ErrCursorExpired) && !ahead {
			return errCursorExpired()
		}
		if err == nil && (len(read.Rows) > 0 || trusted) {
			err := stream.Send(&latchkeyv1.WatchRevocationsResponse{
				Revocations: read.Rows, Cursor: formatCursor(read.Next), Head: read.Head.Seq,
				Complete: read.Complete && trusted,
			})
			if err != nil {
				return err
			}
			after = read.Next
			if !read.Complete {
				continue
			}
			if trusted {
				silence.Reset(silenceTime)
			}
		}
		select {
		case <-read.Changed:
		case <-silence.C:
			return refusal.NotUpToDate()
		case <-ctx.Done():
			return watchEnd(ctx)
		}
	}
}

// watchEnd returns the error for a watch whose context has ended. The client's own deadline is not a failure of a
// store.
func watchEnd(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return status.Error(codes.DeadlineExceeded, "the deadline of the watch has passed")
	}
	return context.Cause(ctx)
}

// The cursor is a version byte, a position and its tip in base64url. It is no secret and proves nothing: an invented
// cursor is just not a position in the ledger.
const (
	cursorVersion = 1
	cursorSize    = 1 + 8 + 16
)

func formatCursor(p ledger.Position) string {
	raw := make([]byte, 0, cursorSize)
	raw = append(raw, cursorVersion)
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.Seq)) //nolint:gosec // G115: never negative
	raw = append(raw, p.Tip[:]...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// parseCursor parses a cursor. An empty one is the start of the ledger.
func parseCursor(text string) (ledger.Position, error) {
	if text == "" {
		return ledger.Position{}, nil
	}
	raw, err := strict.Segment(text)
	if err != nil || len(raw) != cursorSize || raw[0] != cursorVersion || raw[1] > 127 {
		return ledger.Position{}, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "cursor", "CURSOR_FORM",
			"is no cursor of WatchRevocations: send the last one received, or none")
	}
	return ledger.Position{
		Seq: int64(binary.BigEndian.Uint64(raw[1:9])), //nolint:gosec // G115: the first bit is 0, see above
		Tip: uuid.UUID(raw[9:]),
	}, nil
}

func errCursorExpired() error {
	return refusal.New(codes.OutOfRange, latchkeyv1.ErrorReason_ERROR_REASON_CURSOR_EXPIRED,
		"the revocations after this cursor are no longer kept: watch again without one")
}
