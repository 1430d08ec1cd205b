package ledger

import (
	"errors"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// ErrCursorExpired says that the rows after a position are no longer held, or that
// the position belongs to another history: begin anew.
var ErrCursorExpired = errors.New("ledger: the rows after this position are no longer kept")

// Position is a place in one history of the ledger. The zero value is before
// everything.
type Position struct {
	// Seq is the row's number.
	Seq int64
	// Tip is the row's own random value: two histories may use a number twice.
	Tip uuid.UUID
}

// rowLog is the rows that can still matter, in order. Watchers read it each at their
// own pace and hold no more of it than a position, so that a slow one costs nothing.
type rowLog struct {
	mu   sync.RWMutex
	rows []logRow
	// base is the last row that was forgotten, or what was applied when the log began:
	// reading may go on after it.
	base Position
	head Position
	// partial: rows up to the head are still being read, after begin.
	partial bool
	// changed is closed and made anew when rows came or a confirm succeeded.
	changed chan struct{}
}

type logRow struct {
	row *latchkeyv1.Revocation // never changed
	tip uuid.UUID
}

func (l *rowLog) len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.rows)
}

func (l *rowLog) append(row *latchkeyv1.Revocation, tip uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows = append(l.rows, logRow{row, tip})
	l.head = Position{row.GetPosition(), tip}
}

// begin empties the log. Reading may go on after base, and comes to no end before
// finish: a part of the rows must not pass for all of them.
func (l *rowLog) begin(base Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows, l.base, l.head, l.partial = nil, base, base, true
}

// finish says that every row up to the head was read.
func (l *rowLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = false
}

// moveTo takes note that everything up to head was read, whether or not it is held.
func (l *rowLog) moveTo(head Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
	if len(l.rows) == 0 {
		l.base = head
	}
}

// announce wakes readers.
func (l *rowLog) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// forget drops rows from the front that reach no token any more at now.
func (l *rowLog) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.rows) && !now.Before(l.rows[n].row.GetExpireTime().AsTime()) {
		n++
	}
	if n == 0 {
		return
	}
	l.base = Position{l.rows[n-1].row.GetPosition(), l.rows[n-1].tip}
	// A copy, so that the front does not stay in memory behind the slice.
	l.rows = append([]logRow(nil), l.rows[n:]...)
}

// Read is what a watcher gets.
type Read struct {
	// Rows are the next ones, in order.
	Rows []*latchkeyv1.Revocation
	// Next is where to go on, Head the newest position known here.
	Next, Head Position
	// Complete says that Next is Head, and that there is nothing before Head that is
	// still to be read.
	Complete bool
	// Changed is closed when there may be more.
	Changed <-chan struct{}
}

// ReadAfter returns up to limit rows after a position. The zero position is the
// beginning of what is held: every row that can still matter. ErrCursorExpired: the
// position is not one of those.
func (l *Ledger) ReadAfter(after Position, limit int) (Read, error) {
	return l.log.readAfter(after, limit)
}

func (l *rowLog) readAfter(after Position, limit int) (Read, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	from := 0
	switch after {
	case Position{}, l.base:
	case l.head:
		from = len(l.rows)
	default:
		at := sort.Search(len(l.rows), func(i int) bool { return l.rows[i].row.GetPosition() >= after.Seq })
		if at == len(l.rows) || l.rows[at].row.GetPosition() != after.Seq || l.rows[at].tip != after.Tip {
			return Read{Head: l.head, Changed: l.changed}, ErrCursorExpired
		}
		from = at + 1
	}
	r := Read{Next: l.head, Head: l.head, Complete: !l.partial, Changed: l.changed}
	to := min(from+limit, len(l.rows))
	if to < len(l.rows) {
		r.Next = Position{l.rows[to-1].row.GetPosition(), l.rows[to-1].tip}
		r.Complete = false
	}
	r.Rows = make([]*latchkeyv1.Revocation, 0, to-from)
	for _, held := range l.rows[from:to] {
		r.Rows = append(r.Rows, held.row)
	}
	return r, nil
}
