package ledger

import (
	"errors"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// ErrCursorExpired means that the rows after a position are no longer in memory, or that the position belongs
// to another history. Start again from the zero position.
var ErrCursorExpired = errors.New("ledger: the rows after this position are no longer kept")

// Position is a place in one history of the ledger. The zero value is before everything.
type Position struct {
	// Seq is the row's number.
	Seq int64
	// Tip is the row's own random value: two histories may use a number twice.
	Tip uuid.UUID
}

// rowLog has the rows that can still refuse a token, in order. Each watcher reads it at its own speed and
// keeps only a position, so a slow watcher costs nothing.
type rowLog struct {
	mu   sync.RWMutex
	rows []logRow
	// base is the last row that was dropped, or the position at which the log began. Reading may start after it.
	base Position
	head Position
	// partial is true from begin to finish, while rows up to the head are being read.
	partial bool
	// changed is closed and replaced by each heartbeat.
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

// begin empties the log. Until finish, no read is complete: a watcher must not take a part of the rows for
// all of them.
func (l *rowLog) begin(base Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows, l.base, l.head, l.partial = nil, base, base, true
}

// finish marks the log as complete: every row up to the head was read.
func (l *rowLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = false
}

// moveTo sets the head: everything up to it was read, though the log may not have the rows.
func (l *rowLog) moveTo(head Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
	if len(l.rows) == 0 {
		l.base = head
	}
}

// heartbeat wakes readers.
func (l *rowLog) heartbeat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// dropExpired drops rows from the front whose tokens have all expired at now.
func (l *rowLog) dropExpired(now time.Time) {
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

// Read is the result of ReadAfter.
type Read struct {
	// Rows are the next ones, in order.
	Rows []*latchkeyv1.Revocation
	// Next is the position to pass to the next ReadAfter, Head the newest position known here.
	Next, Head Position
	// Complete is true if Next is Head and this process has read every row up to Head.
	Complete bool
	// Changed is closed when there may be more.
	Changed <-chan struct{}
}

// ReadAfter returns up to limit rows after a position. From the zero position, it returns every row that can
// still refuse a token. It returns ErrCursorExpired if the position is not in the log.
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
		r.Next, r.Complete = after, false
		if to > from { // wait asks for no rows
			r.Next = Position{l.rows[to-1].row.GetPosition(), l.rows[to-1].tip}
		}
	}
	r.Rows = make([]*latchkeyv1.Revocation, 0, to-from)
	for _, held := range l.rows[from:to] {
		r.Rows = append(r.Rows, held.row)
	}
	return r, nil
}
