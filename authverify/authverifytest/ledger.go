package authverifytest

import (
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

const (
	// heartbeat is the interval that RevocationService promises.
	heartbeat = time.Second
	// maxRows is how many rows a response may have.
	maxRows = 500
	// origin is where the ledger starts, so that no login has position 0.
	origin = 1000
)

// ledger is a RevocationService in memory.
type ledger struct {
	latchkeyv1.UnimplementedRevocationServiceServer

	mu      sync.Mutex
	rows    []*latchkeyv1.Revocation // positions origin+1, origin+2, …
	down    bool
	changed chan struct{} // closed and replaced when there is something to send
}

func newLedger() *ledger { return &ledger{changed: make(chan struct{})} }

// append gives the row its position, and returns whether anybody is connected.
func (l *ledger) append(row *latchkeyv1.Revocation) (position int64, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	row.Position = origin + int64(len(l.rows)) + 1
	l.rows = append(l.rows, row)
	l.wake()
	return row.GetPosition(), !l.down
}

func (l *ledger) position() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return origin + int64(len(l.rows))
}

func (l *ledger) disconnect(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	l.wake()
}

func (l *ledger) disconnected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// beat sends a heartbeat now.
func (l *ledger) beat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
}

func (l *ledger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// next returns what to send after position.
func (l *ledger) next(position int64) (resp *latchkeyv1.WatchRevocationsResponse, changed <-chan struct{}, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := l.rows[min(max(position-origin, 0), int64(len(l.rows))):]
	complete := len(rows) <= maxRows
	rows = rows[:min(len(rows), maxRows)]
	if len(rows) > 0 {
		position = rows[len(rows)-1].GetPosition()
	}
	return &latchkeyv1.WatchRevocationsResponse{
		Revocations: rows, Cursor: strconv.FormatInt(position, 10),
		Head: origin + int64(len(l.rows)), Complete: complete,
	}, l.changed, l.down
}

// WatchRevocations implements latchkey.v1.RevocationService.
func (l *ledger) WatchRevocations(req *latchkeyv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[latchkeyv1.WatchRevocationsResponse]) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if keys := md.Get("authorization"); len(keys) != 1 || keys[0] != "Bearer "+serviceKey {
		return refuse(codes.Unauthenticated, "KEY_INVALID", "not a service key")
	}
	position := int64(origin)
	if req.GetCursor() != "" {
		var err error
		if position, err = strconv.ParseInt(req.GetCursor(), 10, 64); err != nil {
			return refuse(codes.InvalidArgument, "VALIDATION_FAILED", "not a cursor")
		}
	}
	beats := time.NewTicker(heartbeat)
	defer beats.Stop()
	for {
		resp, changed, down := l.next(position)
		if down {
			return refuse(codes.Unavailable, "STORE_UNAVAILABLE", "disconnected by the test")
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if rows := resp.GetRevocations(); len(rows) > 0 {
			position = rows[len(rows)-1].GetPosition()
		}
		if !resp.GetComplete() {
			continue
		}
		select {
		case <-changed:
		case <-beats.C:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func refuse(code codes.Code, reason, message string) error {
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "latchkey"})
	if err != nil {
		return err
	}
	return st.Err()
}
