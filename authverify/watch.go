package authverify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revocations"
)

const (
	// silenceLimit is three heartbeats. A stream that is silent for longer is closed and opened again: after a
	// pause of this process, or on a slow link, its buffers may have heartbeats that were sent long ago and
	// prove nothing about now. So this also limits how much older than its arrival a proof can be.
	silenceLimit = 3 * time.Second
	// firstLimit is the limit for the first response of a stream, which may have to wait for a connection.
	firstLimit = 10 * time.Second
)

var (
	errSilent      = errors.New("the stream was silent for too long")
	errUnknownKind = errors.New("this version of authverify does not know a kind of revocation: update it")
)

// watcher follows the ledger from one stream to the next.
type watcher struct {
	*Verifier
	cursor string
	// building is a snapshot that is not complete. Until it is, checks use the previous table. Nil if rows are
	// added to that table itself.
	building *revocations.Table
	proven   bool // this stream has sent a proof that all revocations are known
}

// watch follows the ledger until ctx ends.
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
		// The connection has its own back-off of up to two minutes, much longer than MaxStaleness.
		if conn, ok := v.cfg.Conn.(interface{ ResetConnectBackoff() }); ok {
			conn.ResetConnectBackoff()
		}
	}
}

// recover prepares the next stream after one has ended.
func (w *watcher) recover(ctx context.Context, err error, failures int) {
	switch {
	case errors.Is(err, errUnknownKind):
		// The unknown revocation may be about any token that is cached here.
		w.fresh.distrust()
		w.restart()
	case reasonOf(err) == reasonText(latchkeyv1.ErrorReason_ERROR_REASON_CURSOR_EXPIRED):
		w.restart()
	}
	w.streamErr.Store(&err)
	level := slog.LevelDebug
	planned := errors.Is(err, io.EOF) || reasonOf(err) == reasonText(latchkeyv1.ErrorReason_ERROR_REASON_STREAM_ENDED)
	if failures == 0 && !planned { // warn once, though it may last for hours
		level = slog.LevelWarn
	}
	w.cfg.Logger.Log(ctx, level, "the stream of revocations ended, watching again", "error", err)
}

// restart makes the next stream begin with a snapshot, in a new table beside the one that is in use.
func (w *watcher) restart() { w.cursor, w.building = "", &revocations.Table{} }

// follow reads one stream until it ends.
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
		// The timer is not enough: after a pause of this process, a response and the timer are due at the same
		// time.
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

// take applies one response, which was received at now.
func (w *watcher) take(resp *latchkeyv1.WatchRevocationsResponse, now time.Time) error {
	table := w.building
	if table == nil {
		table = w.revocations.Load()
	}
	for _, row := range resp.GetRevocations() {
		if !table.Apply(row) {
			return errUnknownKind
		}
		w.noteDeletion(row)
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
	// Store the table before the proof: a check that sees the proof must see the table.
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

// noteDeletion tells the service of a deleted account. A restarted stream may send a row again.
func (w *watcher) noteDeletion(row *latchkeyv1.Revocation) {
	if w.cfg.OnUserDeleted == nil || row.GetReason() != latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED {
		return
	}
	if id, err := uuid.Parse(row.GetUserId()); err == nil {
		w.cfg.OnUserDeleted(id)
	}
}

// reasonOf returns Latchkey's reason in the error of a call, or "".
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}
