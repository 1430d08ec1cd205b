package ledger

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// clocks are two that a test moves.
type clocks struct {
	boot time.Duration
	wall time.Time
}

func (c *clocks) trust() *lease {
	return &lease{boot: func() time.Duration { return c.boot }, wall: func() time.Time { return c.wall }}
}

// TestTrustEndsByEitherClock: a lease runs from when the question was sent, and the faster clock ends it.
func TestTrustEndsByEitherClock(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	for name, test := range map[string]struct {
		boot, wall time.Duration
		want       bool
	}{
		"at once":                        {0, 0, true},
		"the last moment":                {lease - 1, lease - 1, true},
		"over":                           {lease, lease, false},
		"the machine slept":              {time.Hour, 0, false},
		"the wall clock was set forward": {0, time.Hour, false},
		"the wall clock was set back":    {lease, -time.Hour, false},
	} {
		c := &clocks{boot: time.Minute, wall: time.Unix(1e9, 0)}
		tr := c.trust()
		if tr.valid() {
			t.Fatal("trust that nobody gave")
		}
		sent := tr.now()
		c.boot, c.wall = c.boot+test.boot, c.wall.Add(test.wall)
		tr.grant(sent, lease)
		if got := tr.valid(); got != test.want {
			t.Errorf("%s: trusted %v", name, got)
		}
		tr.drop()
		if tr.valid() {
			t.Errorf("%s: trusted after the drop", name)
		}
	}
}

func waiting(t *testing.T, c *clocks, position int64) (*Ledger, *waiter) {
	t.Helper()
	l := &Ledger{cfg: Config{Boot: func() time.Duration { return c.boot }, Logger: slog.New(slog.DiscardHandler)}}
	l.waiters.known.longest = 5 * time.Second
	w := &waiter{position: position, since: c.boot, done: make(chan struct{})}
	l.waiters.waiting = map[*waiter]struct{}{w: {}}
	return l, w
}

func isDone(w *waiter) bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// TestReadingFromBefore: a reading of the replicas that began before the waiter came may lack one that joined
// in between, and so proves nothing.
func TestReadingFromBefore(t *testing.T) {
	t.Parallel()
	l, w := waiting(t, &clocks{}, 7)
	own := uuid.New()
	l.id.Store(&own)
	l.applied.Store(7)
	l.waiters.round, w.round = 3, 3
	rows := []db.ListReplicasRow{{ID: own, AppliedSeq: 6, LeaseMs: 5000}}
	l.releaseLocked(rows, true)
	if isDone(w) {
		t.Fatal("final by a reading from before the commit")
	}
	l.waiters.round++
	l.releaseLocked(append(rows, db.ListReplicasRow{ID: uuid.New(), AppliedSeq: 6, LeaseMs: 5000}), true)
	if isDone(w) {
		t.Fatal("final though the other replica has not applied the row")
	}
	l.releaseLocked(rows, true)
	if !isDone(w) {
		t.Fatal("not final though all have applied the row")
	}
}

// TestLongestLease: the longest lease in the table counts, also when it has gone from the table meanwhile,
// and a failed reading proves nothing.
func TestLongestLease(t *testing.T) {
	t.Parallel()
	c := &clocks{}
	l, w := waiting(t, c, 7)
	l.waiters.round = 1
	l.releaseLocked([]db.ListReplicasRow{{ID: uuid.New(), AppliedSeq: 0, LeaseMs: 60_000}}, true)
	c.boot = 59 * time.Second
	l.releaseLocked(nil, false)
	if isDone(w) {
		t.Fatal("final before the longest lease was over")
	}
	c.boot = time.Minute
	if _, late := l.releaseLocked(nil, false); !isDone(w) || late != 7 {
		t.Fatal("not final though the longest lease is over")
	}
}

// TestFailover: a new timeline may have lost rows of replicas, so that for one lease the table proves
// nothing.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := &clocks{boot: time.Hour}
	l, w := waiting(t, c, 2<<timelineBits)
	l.waiters.round = 1
	l.waiters.noteTimeline(1<<timelineBits+5, c.boot-time.Minute)
	l.waiters.noteTimeline(2<<timelineBits, c.boot)
	l.releaseLocked(nil, true)
	if isDone(w) {
		t.Fatal("final by a table that may lack replicas")
	}
	c.boot += l.waiters.known.longest
	l.releaseLocked(nil, true)
	if !isDone(w) {
		t.Fatal("not final after one lease")
	}
}

// TestLogModel: a reader gets every row once and in order, with pages of any size, unless it gets
// ErrCursorExpired and has to start again.
func TestLogModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &rowLog{changed: make(chan struct{})}
		l.moveTo(Position{0, uuid.New()})
		start := time.Unix(1e9, 0)
		var model []Position // all rows ever
		forgotten, now := 0, start
		var cursor Position
		seen := 0 // rows of the model that the reader has
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				now = now.Add(time.Second)
				p := Position{int64(len(model))*3 + 1 + rapid.Int64Range(0, 2).Draw(t, "gap"), uuid.New()}
				model = append(model, p)
				l.append(&latchkeyv1.Revocation{Position: p.Seq, ExpireTime: timestamppb.New(now.Add(time.Minute))}, p.Tip)
			},
			"forget": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
				before := l.len()
				l.dropExpired(now)
				forgotten += before - l.len()
			},
			"read": func(t *rapid.T) {
				limit := rapid.IntRange(0, 4).Draw(t, "limit")
				read, err := l.readAfter(cursor, limit)
				if errors.Is(err, ErrCursorExpired) {
					if seen >= forgotten {
						t.Fatalf("expired after %d of %d rows, %d forgotten", seen, len(model), forgotten)
					}
					cursor = Position{}
					return
				}
				if cursor == (Position{}) {
					seen = forgotten // a snapshot begins with what is held
				}
				for _, row := range read.Rows {
					if row.GetPosition() != model[seen].Seq {
						t.Fatalf("row %d, want %d", row.GetPosition(), model[seen].Seq)
					}
					seen++
				}
				if read.Complete != (seen == len(model)) || len(read.Rows) > limit {
					t.Fatalf("complete %v after %d of %d, %d rows", read.Complete, seen, len(model), len(read.Rows))
				}
				cursor = read.Next
			},
			"forged": func(t *rapid.T) {
				p := Position{rapid.Int64Range(0, 100).Draw(t, "seq"), uuid.New()}
				if _, err := l.readAfter(p, 1); !errors.Is(err, ErrCursorExpired) {
					t.Fatal("a place that is none was taken")
				}
			},
			"": func(t *rapid.T) {
				if !slices.IsSortedFunc(l.rows, func(a, b logRow) int { return int(a.row.GetPosition() - b.row.GetPosition()) }) {
					t.Fatal("out of order")
				}
			},
		})
	})
}

// TestHeldFor: rows are held as long as a token is accepted that they can refuse.
func TestHeldFor(t *testing.T) {
	t.Parallel()
	usual := time.Unix(1e9, 0).UTC()
	until := usual.Add(1000 * time.Hour)
	own, foreign := uuid.New().String(), "00000000-0000-8000-8000-000000000000"
	for _, test := range []struct {
		kind, session string
		long          bool
	}{
		{"session", own, false},
		{"session", foreign, true},
		{"user", "", true},
		{"all", "", true},
		{"key", "", true},
		{"user_changed", "", false},
		{"keys_changed", "", false},
	} {
		row := &latchkeyv1.Revocation{Kind: kindOf(test.kind), SessionId: test.session, ExpireTime: timestamppb.New(usual)}
		want := usual
		if test.long {
			want = until.Add(margin)
		}
		if got := (&tail{legacy: until}).heldFor(row).GetExpireTime().AsTime(); !got.Equal(want) {
			t.Errorf("%s %s: held until %v, want %v", test.kind, test.session, got, want)
		}
		for _, earlier := range []time.Time{{}, usual.Add(-time.Hour)} {
			if got := (&tail{legacy: earlier}).heldFor(row).GetExpireTime().AsTime(); !got.Equal(usual) {
				t.Errorf("%s %s: held until %v with acceptance until %v", test.kind, test.session, got, earlier)
			}
		}
		if !row.GetExpireTime().AsTime().Equal(usual) {
			t.Error("what watchers are told has changed")
		}
	}
}
