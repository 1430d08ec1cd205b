package authverify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revocations"
)

const (
	// silenceLimit is three heartbeats. A stream that was silent for longer is given up and resumed: after a
	// pause of this process, or a congested link, its buffers hold heartbeats that were sent long ago and prove
	// nothing about now. What a proof can be older than its arrival is bounded by this too.
	silenceLimit = 3 * time.Second
	// firstLimit is for the first response of a stream, for which a connection may have to be made.
	firstLimit = 10 * time.Second
)

var (
	errSilent      = errors.New("the stream was silent for too long")
	errUnknownKind = errors.New("a revocation of a kind that this version of authverify does not know: update it")
)

// watcher follows the ledger from one stream to the next.
type watcher struct {
	*Verifier
	cursor string
	// building is a snapshot that is not complete. Until it is, tokens are judged by the table before it. Nil
	// while that table itself is followed.
	building *revocations.Table
	proven   bool // this stream has proven that everything is known
}

// watch follows the ledger until ctx is over.
func (v *Verifier) watch(ctx context.Context) {
	w := &watcher{Verifier: v, building: &revocations.Table{}}
	failures := 0
	for {
		w.proven = false
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if w.proven {
			failures = 0
		}
		w.recover(ctx, err, failures)
		pause := time.NewTimer(backoff(failures))
		failures++
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		// The connection has its own back-off, of up to two minutes. It would outlast the bound on staleness by
		// far.
		if conn, ok := v.cfg.Conn.(interface{ ResetConnectBackoff() }); ok {
			conn.ResetConnectBackoff()
		}
	}
}

// recover decides how to go on after a stream has ended.
func (w *watcher) recover(ctx context.Context, err error, failures int) {
	switch {
	case errors.Is(err, errUnknownKind):
		// Whatever was revoked may be anything that is cached here.
		w.fresh.distrust()
		w.restart()
	case reasonOf(err) == reasonText(latchkeyv1.ErrorReason_ERROR_REASON_CURSOR_EXPIRED):
		w.restart()
	}
	w.streamErr.Store(&err)
	level := slog.LevelDebug
	planned := errors.Is(err, io.EOF) || reasonOf(err) == reasonText(latchkeyv1.ErrorReason_ERROR_REASON_STREAM_ENDED)
	if failures == 0 && !planned { // once, however long it lasts
		level = slog.LevelWarn
	}
	w.cfg.Logger.Log(ctx, level, "the stream of revocations ended, watching again", "error", err)
}

// restart begins with a snapshot, aside of the table that is in use.
func (w *watcher) restart() { w.cursor, w.building = "", &revocations.Table{} }

// follow takes in one stream until it ends.
func (w *watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(firstLimit, func() { cancel(errSilent) })
	defer silence.Stop()
	last, limit := w.cfg.Now(), firstLimit
	stream, err := latchkeyv1.NewRevocationServiceClient(w.cfg.Conn).WatchRevocations(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.cfg.ServiceKey),
		&latchkeyv1.WatchRevocationsRequest{Cursor: w.cursor},
	)
	for err == nil {
		var resp *latchkeyv1.WatchRevocationsResponse
		if resp, err = stream.Recv(); err != nil {
			break
		}
		now := w.cfg.Now()
		// Here too, not by the timer alone: after a pause both are due at once.
		if elapsed(last, now) > limit {
			return errSilent
		}
		last, limit = now, silenceLimit
		silence.Reset(silenceLimit)
		if err := w.take(resp, now); err != nil {
			return err
		}
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

// take takes in one response, received at now.
func (w *watcher) take(resp *latchkeyv1.WatchRevocationsResponse, now time.Time) error {
	table := w.building
	if table == nil {
		table = w.revocations.Load()
	}
	for _, row := range resp.GetRevocations() {
		if !table.Apply(row) {
			return errUnknownKind
		}
		switch row.GetKind() {
		case latchkeyv1.RevocationKind_REVOCATION_KIND_KEY, latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED:
			w.keys.changed()
		default:
		}
	}
	w.cursor = resp.GetCursor()
	if !resp.GetComplete() {
		return nil
	}
	// The table first, then the proof: whoever sees the proof sees the table.
	if w.building != nil {
		w.revocations.Store(w.building)
		w.building = nil
	}
	w.fresh.prove(now)
	w.fresh.check(now)
	w.position.Store(resp.GetHead())
	if !w.proven {
		w.proven = true
		w.streamErr.Store(nil)
	}
	w.synced.Do(func() { close(w.snapshot) })
	return nil
}

// reasonOf is the reason of Latchkey's that an error of a call carries, or empty.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}
