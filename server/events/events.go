// Package events has what the services that list the audit trail share: the requests, the messages and the page tokens.
package events

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/server/page"
)

// Request asks for a page of a list of events.
type Request interface {
	GetKinds() []string
	GetStartTime() *timestamppb.Timestamp
	GetEndTime() *timestamppb.Timestamp
	GetPageSize() int32
	GetPageToken() string
}

// List names a list of events.
type List struct {
	// UserID is the account of the events. Not valid: all events.
	UserID uuid.NullUUID
	// Owner means that the owner of the account asks, and not an operator.
	Owner bool
	// Purpose is the purpose of its page tokens, and DefaultSize the size of a page of a request that names none.
	Purpose     string
	DefaultSize int32
}

// Page returns a page of the list, and the token of the next page.
func Page(ctx context.Context, accounts *account.Accounts, pages page.Tokens, list List, req Request) (shown []*latchkeyv1.AuditEvent, next string, err error) {
	query, err := list.query(pages, req)
	if err != nil {
		return nil, "", err
	}
	found, after, err := accounts.Events(ctx, query)
	if err != nil {
		return nil, "", err
	}
	for _, e := range found {
		shown = append(shown, list.message(pages, e))
	}
	if after != nil {
		next = pages.Seal(list.Purpose, list.filters(req), after.Time, fromNumber(after.ID))
	}
	return shown, next, nil
}

func (l List) query(pages page.Tokens, req Request) (audit.Query, error) {
	q := audit.Query{UserID: l.UserID, Size: req.GetPageSize()}
	if q.Size == 0 {
		q.Size = l.DefaultSize
	}
	known := audit.Kinds()
	for i, kind := range req.GetKinds() {
		if !slices.Contains(known, audit.Kind(kind)) {
			return q, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, fmt.Sprintf("kinds[%d]", i), "KIND",
				"is no kind of event of this version")
		}
		q.Kinds = append(q.Kinds, audit.Kind(kind))
	}
	for _, t := range []struct {
		name string
		from *timestamppb.Timestamp
		to   *time.Time
	}{{"start_time", req.GetStartTime(), &q.Start}, {"end_time", req.GetEndTime(), &q.End}} {
		switch {
		case t.from == nil:
		case !t.from.IsValid():
			return q, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, t.name, "TIME", "is no time")
		default:
			*t.to = t.from.AsTime()
		}
	}
	if !q.End.IsZero() && !q.End.After(q.Start) {
		return q, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "end_time", "ORDER", "must be after start_time")
	}
	if text := req.GetPageToken(); text != "" {
		at, id, err := pages.Open(l.Purpose, l.filters(req), text)
		if err != nil {
			return q, err
		}
		q.After = &audit.Position{Time: at, ID: toNumber(id)}
	}
	return q, nil
}

// filters returns the owner of page tokens: the account and the filters. So a token of one account's list, or of other
// filters, is refused.
func (l List) filters(req Request) string {
	parts := []string{"all"}
	if l.UserID.Valid {
		parts[0] = l.UserID.UUID.String()
	}
	for _, t := range []*timestamppb.Timestamp{req.GetStartTime(), req.GetEndTime()} {
		if t == nil {
			parts = append(parts, "")
			continue
		}
		parts = append(parts, strconv.FormatInt(t.GetSeconds(), 10)+"."+strconv.FormatInt(int64(t.GetNanos()), 10))
	}
	return strings.Join(append(parts, req.GetKinds()...), "\n") // known kinds have no line break
}

// message returns the event as the reader of the list may see it. The ids of rows count the events of all accounts, so
// the owner of one gets other ids. Operators have a right to privacy too: owners see neither address nor key.
func (l List) message(pages page.Tokens, e audit.Listed) *latchkeyv1.AuditEvent {
	m := &latchkeyv1.AuditEvent{
		Id: strconv.FormatInt(e.ID, 10), Kind: string(e.Kind), Time: timestamppb.New(e.Time), UserId: text(e.UserID),
		SessionId: text(e.SessionID), Address: e.Address, Actor: e.Actor, TraceId: e.TraceID, Times: e.Times,
	}
	if !l.Owner {
		return m
	}
	m.Id = pages.Opaque(l.Purpose, m.GetUserId(), e.ID)
	if m.GetActor() != "" {
		m.Actor, m.Address = audit.Operator, ""
	}
	return m
}

func text(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// Page tokens have room for a UUID. A number takes its last 8 bytes.
func fromNumber(n int64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)) //nolint:gosec // G115: read back the same way
	return id
}

func toNumber(id uuid.UUID) int64 {
	return int64(binary.BigEndian.Uint64(id[8:])) //nolint:gosec // G115: written the same way
}
