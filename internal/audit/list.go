package audit

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
)

const (
	// Operator is the actor of an event that some operator caused.
	Operator = "operator"
	// looked is how many rows List looks at if it wants certain kinds only. That takes PostgreSQL some milliseconds.
	looked = 5000
)

// Position is a place in a list of events, newest first: after the event of this time and id.
type Position struct {
	Time time.Time
	ID   int64
}

// Query says which events to list.
type Query struct {
	// UserID is the account, which may be deleted. Not valid: all events, also those of no account.
	UserID uuid.NullUUID
	// Kinds are the wanted kinds. None: all.
	Kinds []Kind
	// Start is the oldest time of an event, and End the first time that is too late. Zero: any.
	Start, End time.Time
	// After is where the list continues. Nil: at its beginning.
	After *Position
	// Size is how many events to return at most.
	Size int32
}

// Listed is an event as it is stored.
type Listed struct {
	Event

	ID int64
	// Times is how often it happened: repeats within a minute are counted in one event.
	Times int32
}

// List returns events, newest first, and where to continue, nil if there are no more. If it wants certain kinds only, it
// may return fewer events than fit, even none, and still say where to continue: a call looks at a limited number of
// rows, so that its cost is limited too. The address of an account that was deleted is "". CallID is not read.
func (t *Trail) List(ctx context.Context, on db.DBTX, q Query) (events []Listed, next *Position, err error) {
	rows, err := t.read(ctx, on, q)
	if err != nil {
		return nil, nil, fmt.Errorf("list audit events: %w", err)
	}
	for _, row := range rows {
		if row.Wanted {
			if len(events) == int(q.Size) {
				last := events[len(events)-1]
				return events, &Position{last.Time, last.ID}, nil
			}
			events = append(events, listed(row))
		}
		if row.Last {
			next = &Position{row.CreatedAt, row.ID}
		}
	}
	return events, next, nil
}

// read reads one more event than fits, to see whether there are more.
func (t *Trail) read(ctx context.Context, on db.DBTX, q Query) ([]db.ListAuditEventsOfRow, error) {
	before := db.ListAuditEventsParams{
		Kinds: []string{}, Before: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), BeforeID: math.MinInt64, Since: q.Start,
		Most: q.Size + 1, Size: q.Size + 1,
	}
	for _, kind := range q.Kinds {
		before.Kinds, before.Most = append(before.Kinds, string(kind)), max(looked, before.Most)
	}
	if !q.End.IsZero() {
		before.Before = q.End
	}
	if q.After != nil {
		before.Before, before.BeforeID = q.After.Time, q.After.ID
	}
	if q.UserID.Valid {
		return t.queries.ListAuditEventsOf(ctx, on, db.ListAuditEventsOfParams{
			Kinds: before.Kinds, Most: before.Most, UserID: q.UserID.UUID, Before: before.Before, BeforeID: before.BeforeID,
			Since: before.Since, Size: before.Size,
		})
	}
	rows, err := t.queries.ListAuditEvents(ctx, on, before)
	same := make([]db.ListAuditEventsOfRow, len(rows))
	for i, row := range rows {
		same[i] = db.ListAuditEventsOfRow(row)
	}
	return same, err
}

func listed(row db.ListAuditEventsOfRow) Listed {
	e := Listed{ID: row.ID, Times: row.Times, Event: Event{
		Time: row.CreatedAt, Kind: Kind(row.Kind), UserID: row.UserID, SessionID: row.SessionID.UUID,
		Address: row.Address, TraceID: row.TraceID, Actor: row.Actor,
	}}
	if e.Actor == "" && e.Kind.isOperators() {
		e.Actor = Operator
	}
	return e
}
