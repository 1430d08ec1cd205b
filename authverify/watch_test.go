package authverify_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// refused is an error as Latchkey makes it.
func refused(t testing.TB, code codes.Code, domain, reason string) error {
	t.Helper()
	st, err := status.New(code, "refused").WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func complete(head int64, rows ...*latchkeyv1.Revocation) *latchkeyv1.WatchRevocationsResponse {
	return &latchkeyv1.WatchRevocationsResponse{
		Revocations: rows, Cursor: "c" + strconv.FormatInt(head, 10), Head: head, Complete: true,
	}
}

func partial(head int64, cursor string, rows ...*latchkeyv1.Revocation) *latchkeyv1.WatchRevocationsResponse {
	return &latchkeyv1.WatchRevocationsResponse{Revocations: rows, Cursor: cursor, Head: head}
}

func TestWatchSendsTheServiceKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(t, nil)
	s := w.next(t)
	if !slices.Equal(s.credential, []string{"Bearer service-key"}) || s.cursor != "" {
		t.Errorf("sent %q, cursor %q", s.credential, s.cursor)
	}
}

// However a stream ends, the next one goes on after what was taken in last, and what is known stays known
// meanwhile.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"end":              nil,
		"as planned":       refused(t, codes.Unavailable, "latchkey", "STREAM_ENDED"),
		"unavailable":      refused(t, codes.Unavailable, "latchkey", "STORE_UNAVAILABLE"),
		"too slow":         refused(t, codes.Aborted, "latchkey", "WATCHER_TOO_SLOW"),
		"key refused":      refused(t, codes.Unauthenticated, "latchkey", "KEY_INVALID"),
		"internal":         status.Error(codes.Internal, "internal error"),
		"somebody else's":  refused(t, codes.OutOfRange, "example.com", "CURSOR_EXPIRED"),
		"without a reason": status.Error(codes.OutOfRange, "CURSOR_EXPIRED"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, s := w.ready(t, nil)
			first, second := newPerson(t), newPerson(t)
			s.send(t, v, complete(7, sessionRow(7, first)))
			s.give(t, partial(9, "c8", sessionRow(8, second)))
			s.fail(t, err)
			s = w.next(t)
			if s.cursor != "c8" {
				t.Errorf("resumed from %q", s.cursor)
			}
			wantVerdict(t, v, w.token(t, first), authverify.ErrRevoked)
			wantVerdict(t, v, w.token(t, second), authverify.ErrRevoked)
			wantVerdict(t, v, w.token(t, newPerson(t)), nil)
			s.send(t, v, complete(9))
		})
	}
}

// An expired cursor means a snapshot anew. Until it is complete, the old rows refuse and the age of the old
// proof counts; then the new ones alone do.
func TestWatchCursorExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	old, kept, added, other := newPerson(t), newPerson(t), newPerson(t), newPerson(t)
	s.send(t, v, complete(7, sessionRow(6, old), sessionRow(7, kept)))
	s.fail(t, refused(t, codes.OutOfRange, "latchkey", "CURSOR_EXPIRED"))
	s = w.next(t)
	if s.cursor != "" {
		t.Fatalf("resumed from %q", s.cursor)
	}
	s.give(t, partial(9, "c8", sessionRow(7, kept)))
	// The rows so far are neither used nor lost when this stream breaks as well.
	s.fail(t, status.Error(codes.Unavailable, "restarting"))
	s = w.next(t)
	if s.cursor != "c8" {
		t.Errorf("resumed from %q", s.cursor)
	}
	for _, p := range []person{old, kept} {
		wantVerdict(t, v, w.token(t, p), authverify.ErrRevoked)
	}
	wantVerdict(t, v, w.token(t, added), nil)
	w.advance(authverify.DefaultMaxStaleness + 1)
	wantVerdict(t, v, w.token(t, other), authverify.ErrUnavailable)
	wantVerdict(t, v, w.token(t, old), authverify.ErrRevoked)
	// What came after so long a silence is not taken in, but asked for again.
	s.give(t, complete(9, sessionRow(9, added)))
	s = w.next(t)
	if s.cursor != "c8" {
		t.Errorf("resumed from %q", s.cursor)
	}
	s.send(t, v, complete(9, sessionRow(9, added)))
	for _, p := range []person{kept, added} {
		wantVerdict(t, v, w.token(t, p), authverify.ErrRevoked)
	}
	wantVerdict(t, v, w.token(t, other), nil)
	wantVerdict(t, v, w.token(t, old), nil) // the snapshot no longer has it
}

// A row that cannot be understood revokes something: nothing is trusted from that moment on, until a whole
// snapshot was understood.
func TestWatchUnknownRow(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	for name, row := range map[string]*latchkeyv1.Revocation{
		"new kind":          {Position: 8, Kind: 99},
		"unspecified":       {Position: 8},
		"session of nobody": {Position: 8, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION, SessionId: p.session.String()},
		"user not a UUID":   {Position: 8, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: "x"},
		"bad exception": {
			Position: 8, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: p.user.String(), ExceptSessionId: "x",
		},
		"key without an id": {Position: 8, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEY},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, s := w.ready(t, nil)
			known := newPerson(t)
			s.send(t, v, complete(7, sessionRow(7, known)))
			token := w.token(t, newPerson(t))
			wantVerdict(t, v, token, nil)
			s.give(t, complete(8, row))
			s = w.next(t)
			if s.cursor != "" {
				t.Errorf("resumed from %q", s.cursor)
			}
			wantVerdict(t, v, token, authverify.ErrUnavailable)
			wantVerdict(t, v, w.token(t, known), authverify.ErrRevoked)
			// The snapshot has it too, so nothing gets better.
			s.give(t, partial(8, "c7", sessionRow(7, known)))
			s.give(t, complete(8, row))
			s = w.next(t)
			wantVerdict(t, v, token, authverify.ErrUnavailable)
			s.send(t, v, complete(9, sessionRow(7, known)))
			wantVerdict(t, v, token, nil)
			wantVerdict(t, v, w.token(t, known), authverify.ErrRevoked)
		})
	}
}

// A heartbeat without rows is a proof, a response that is not complete is none.
func TestWatchHeartbeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	token := w.token(t, newPerson(t))
	for head := int64(2); head < 20; head++ {
		w.advance(2 * time.Second)
		s.send(t, v, complete(head))
		if got := v.Staleness(); got != 0 {
			t.Fatalf("staleness %s", got)
		}
		wantVerdict(t, v, token, nil)
	}
	for range 6 {
		p := newPerson(t)
		w.advance(2 * time.Second)
		s.give(t, partial(21, "c20", sessionRow(20, p)))
		eventually(t, "takes in the row", func() bool {
			_, err := v.Verify(t.Context(), w.token(t, p))
			return errors.Is(err, authverify.ErrRevoked)
		})
	}
	wantVerdict(t, v, token, authverify.ErrUnavailable)
}

// A response that comes after a silence of more than three heartbeats was perhaps sent long ago: it proves
// nothing.
func TestWatchSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	w.advance(3 * time.Second)
	s.send(t, v, complete(2))
	w.advance(3*time.Second + 1)
	s.give(t, complete(3))
	again := w.next(t)
	if again.cursor != "c2" || v.Position() != 2 {
		t.Errorf("resumed from %q at %d", again.cursor, v.Position())
	}
	if got := v.Staleness(); got != 3*time.Second+1 {
		t.Errorf("staleness %s", got)
	}
	again.send(t, v, complete(3))
	if got := v.Staleness(); got != 0 {
		t.Errorf("staleness %s", got)
	}
}

// A stream that says nothing is given up without any response, by real time.
func TestWatchGivesUpASilentStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.ready(t, nil)
	began := time.Now()
	if again := w.next(t); again.cursor != "c1" {
		t.Errorf("resumed from %q", again.cursor)
	}
	<-s.gone
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("given up after %s", took)
	}
}

// Each kind of row does what the contract says, on the way through the stream.
func TestWatchKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	p, other := newPerson(t), newPerson(t)
	second := person{p.user, newPerson(t).session}
	led := func(p person, position int64) string {
		claims := w.claims(p)
		claims["led"] = position
		return w.sign(t, "k1", nil, claims)
	}
	s.send(t, v, complete(20, &latchkeyv1.Revocation{
		Position: 20, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER,
		UserId: p.user.String(), ExceptSessionId: second.session.String(),
	}))
	wantVerdict(t, v, led(p, 19), authverify.ErrRevoked)
	wantVerdict(t, v, led(p, 20), nil)
	wantVerdict(t, v, led(second, 19), nil)
	wantVerdict(t, v, led(other, 19), nil)
	s.send(t, v, complete(30, &latchkeyv1.Revocation{
		Position: 30, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_ALL, ExceptSessionId: other.session.String(),
	}))
	wantVerdict(t, v, led(p, 29), authverify.ErrRevoked)
	wantVerdict(t, v, led(other, 29), nil)
	wantVerdict(t, v, led(p, 30), nil)
	s.send(t, v, complete(31, &latchkeyv1.Revocation{
		Position: 31, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER_CHANGED, UserId: p.user.String(),
	}))
	wantVerdict(t, v, led(p, 30), nil)
	s.send(t, v, complete(32, sessionRow(32, person{other.user, p.session})))
	wantVerdict(t, v, led(p, 30), nil) // another account's
	s.send(t, v, complete(33, sessionRow(33, p)))
	wantVerdict(t, v, led(p, 40), authverify.ErrRevoked)
}
