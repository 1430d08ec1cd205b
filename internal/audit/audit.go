// Package audit writes the audit trail: every event of table audit_events is made here, and so has the caller and the
// time in the same form. The one statement that inserts events elsewhere is the ledger's append of ended sessions, which
// writes rows and events in one flush; its events come from [Trail.Event].
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/caller"
)

// Kind names what happened to an account.
type Kind string

// The kinds are stored: rename none.
const (
	SignedUp Kind = "signed_up"
	// SignUpAttempted: with LATCHKEY_HIDE_ACCOUNTS the owner learns of it by mail, one an hour.
	SignUpAttempted Kind = "sign_up_attempted"
	LoggedIn        Kind = "logged_in"
	LoggedOut       Kind = "logged_out"
	// LoginFailed is sampled: the first five of 15 minutes, then each tenth.
	LoginFailed    Kind = "login_failed"
	LoginsLimited  Kind = "logins_limited"
	PasswordClosed Kind = "password_login_closed"
	// ClientClosed: a device is as good as an unknown one, or a session cannot change the password any more.
	ClientClosed Kind = "password_client_closed"

	RefreshRepeat   Kind = "refresh_repeated"
	RefreshCaughtUp Kind = "refresh_caught_up"
	RefreshReused   Kind = "refresh_reused"
	LegacyTraded    Kind = "legacy_refresh_traded"
	ResetRequested  Kind = "password_reset_requested"
	PasswordReset   Kind = "password_reset"
	PasswordChanged Kind = "password_changed"
	SessionEvicted  Kind = "session_evicted"
	SessionRevoked  Kind = "session_revoked"
	OthersRevoked   Kind = "other_sessions_revoked"
	AllLoggedOut    Kind = "all_sessions_logged_out"

	UserSuspended       Kind = "user_suspended"
	UserReactivated     Kind = "user_reactivated"
	UserSessionRevoked  Kind = "user_session_revoked"
	UserSessionsRevoked Kind = "user_sessions_revoked"
	AllSessionsRevoked  Kind = "all_sessions_revoked"
)

// repeatsCounted is how long what repeats is counted on its first event: a thief can
// repeat a refresh thousands of times in the grace.
const repeatsCounted = time.Minute

// Event is one row of the trail.
type Event struct {
	Time time.Time
	Kind Kind
	// UserID is whose account it is about; uuid.Nil: nobody's, as when all sessions are revoked.
	UserID uuid.UUID
	// SessionID is the session that acted or was acted on; uuid.Nil: none.
	SessionID uuid.UUID
	// Address, TraceID and CallID are the caller's, "" for work without one.
	Address, TraceID, CallID string
}

// Trail writes events. Use New.
type Trail struct {
	now       func() time.Time
	queries   *db.Queries
	repeating keyedLocks // by session
}

// New returns the writer; now dates the events.
func New(now func() time.Time) *Trail { return &Trail{now: now, queries: db.New()} }

// Event returns the event of the present caller, which nothing has written yet.
func (t *Trail) Event(ctx context.Context, kind Kind, userID, sessionID uuid.UUID) Event {
	c := caller.From(ctx)
	return Event{
		Time: t.now(), Kind: kind, UserID: userID, SessionID: sessionID,
		Address: c.AddressText(), TraceID: c.TraceID, CallID: c.CallID,
	}
}

// Record writes an event of the present caller, in the transaction of the fact where there is one.
func (t *Trail) Record(ctx context.Context, on db.DBTX, kind Kind, userID, sessionID uuid.UUID) error {
	return t.Write(ctx, on, t.Event(ctx, kind, userID, sessionID))
}

// Write writes an event that work without a caller has made.
func (t *Trail) Write(ctx context.Context, on db.DBTX, e Event) error {
	return t.queries.RecordAuditEvent(ctx, on, db.RecordAuditEventParams{
		CreatedAt: e.Time, Kind: string(e.Kind), UserID: e.UserID,
		SessionID: uuid.NullUUID{UUID: e.SessionID, Valid: e.SessionID != uuid.Nil},
		Address:   e.Address, TraceID: e.TraceID, CallID: e.CallID,
	})
}

// RecordRepeated is Record for what a caller can do over and over in one session: the first makes an event, which then
// counts the others of a minute.
func (t *Trail) RecordRepeated(ctx context.Context, on db.DBTX, kind Kind, userID, sessionID uuid.UUID) error {
	// One at a time: those that come at once would each find no event.
	release, err := t.repeating.hold(ctx, sessionID)
	if err != nil {
		return err
	}
	defer release()
	e := t.Event(ctx, kind, userID, sessionID)
	return t.queries.RecordRepeatedEvent(ctx, on, db.RecordRepeatedEventParams{
		CreatedAt: e.Time, Since: e.Time.Add(-repeatsCounted), Kind: string(e.Kind), UserID: e.UserID, SessionID: e.SessionID,
		Address: e.Address, TraceID: e.TraceID, CallID: e.CallID,
	})
}

// RecordAttemptedSignUp writes the event of which the account's owner learns by the mail notice in the same transaction,
// and none within an hour of that notice.
func (t *Trail) RecordAttemptedSignUp(ctx context.Context, on db.DBTX, userID uuid.UUID, notice string) error {
	e := t.Event(ctx, SignUpAttempted, userID, uuid.Nil)
	return t.queries.RecordSignUpAttempt(ctx, on, db.RecordSignUpAttemptParams{
		CreatedAt: e.Time, Kind: string(e.Kind), UserID: e.UserID,
		Address: e.Address, TraceID: e.TraceID, CallID: e.CallID, Notice: notice,
	})
}

// Newest returns the kind and the session of the last thing that happened to an account, whose row the caller has locked;
// zero values when nothing has.
func (t *Trail) Newest(ctx context.Context, on db.DBTX, userID uuid.UUID) (kind Kind, sessionID uuid.UUID, err error) {
	last, err := t.queries.NewestAuditEvent(ctx, on, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", uuid.Nil, nil
	}
	if err != nil {
		return "", uuid.Nil, fmt.Errorf("read the audit trail: %w", err)
	}
	return Kind(last.Kind), last.SessionID.UUID, nil
}

// KnowsSession says whether the account ever had the session: whether the trail has an event of it other than its end,
// which anybody can ask for by any identifier.
func (t *Trail) KnowsSession(ctx context.Context, on db.DBTX, userID, sessionID uuid.UUID) (bool, error) {
	began, err := t.queries.SessionInTrail(ctx, on, db.SessionInTrailParams{UserID: userID, SessionID: sessionID})
	if err != nil {
		return false, fmt.Errorf("look the session up in the audit trail: %w", err)
	}
	return began, nil
}
