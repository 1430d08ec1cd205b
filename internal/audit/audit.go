// Package audit writes and lists the audit trail. It makes every event of the table audit_events, so all have the caller and the
// time in the same form. Two statements elsewhere insert events, to save trips: the ledger appends ended sessions and
// their events in one flush, and a login is recorded with its event. Those events come from [Trail.Event].
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

// Kind names the event.
type Kind string

// The kinds are stored: do not change them.
const (
	SignedUp Kind = "signed_up"
	// SignUpAttempted: with LATCHKEY_HIDE_ACCOUNTS the owner gets a mail about it, at most one an hour.
	SignUpAttempted Kind = "sign_up_attempted"
	LoggedIn        Kind = "logged_in"
	LoggedOut       Kind = "logged_out"
	// Reauthenticated: the owner of a session was authenticated again. Repeats within a minute are counted in one event.
	Reauthenticated Kind = "reauthenticated"
	// LoginFailed is sampled: the first five in 15 minutes, then each tenth.
	LoginFailed    Kind = "login_failed"
	LoginsLimited  Kind = "logins_limited"
	PasswordClosed Kind = "password_login_closed"
	// ClientClosed: a device counts as unknown from now on, or a session can no longer change the password.
	ClientClosed Kind = "password_client_closed"

	// FactorAdded, FactorRemoved and RecoveryCodesReplaced: a session of the account did it.
	FactorAdded           Kind = "factor_added"
	FactorRemoved         Kind = "factor_removed"
	RecoveryCodesReplaced Kind = "recovery_codes_replaced"
	RecoveryCodeUsed      Kind = "recovery_code_used"
	// PasskeyAdded, PasskeyRenamed and PasskeyRemoved: a session of the account did it.
	PasskeyAdded   Kind = "passkey_added"
	PasskeyRenamed Kind = "passkey_renamed"
	PasskeyRemoved Kind = "passkey_removed"
	// PasskeyCountFellBack: a passkey was used whose sign count was not higher than before. It may be a copy.
	PasskeyCountFellBack Kind = "passkey_count_fell_back"
	// FactorFailed: a wrong code of a second factor. FactorsLimited: the last one that is allowed for some time.
	FactorFailed   Kind = "factor_failed"
	FactorsLimited Kind = "factors_limited"

	RefreshRepeat   Kind = "refresh_repeated"
	RefreshCaughtUp Kind = "refresh_caught_up"
	RefreshReused   Kind = "refresh_reused"
	LegacyTraded    Kind = "legacy_refresh_traded"
	ResetRequested  Kind = "password_reset_requested"
	PasswordReset   Kind = "password_reset"
	PasswordChanged Kind = "password_changed"
	// VerificationMailed: a link and a code that prove the address were mailed.
	VerificationMailed Kind = "verification_requested"
	// EmailVerified: the address was proved by somebody with the password or a session. AddressReclaimed: by somebody
	// with neither, so that the account lost its password, its sessions and what else a stranger may have planted.
	EmailVerified    Kind = "email_verified"
	AddressReclaimed Kind = "address_reclaimed"
	// SessionHandedOver: an app got a session of its own for an authorization code.
	SessionHandedOver Kind = "session_handed_over"
	// LoginCodeMailed: a code that logs in was mailed. LoginCodeFailed: somebody who had asked for one typed a wrong code.
	LoginCodeMailed Kind = "login_code_requested"
	LoginCodeFailed Kind = "login_code_failed"
	// EmailChangeRequested: a session asked for another address. EmailChanged: the new address was proved, and is the
	// account's. EmailChangeUndone: the address before was put back with a mailed link, and the sessions were ended.
	EmailChangeRequested Kind = "email_change_requested"
	EmailChanged         Kind = "email_changed"
	EmailChangeUndone    Kind = "email_change_undone"
	// AccountUpdated: the owner changed the names.
	AccountUpdated Kind = "account_updated"
	SessionEvicted Kind = "session_evicted"
	SessionRevoked Kind = "session_revoked"
	OthersRevoked  Kind = "other_sessions_revoked"
	AllLoggedOut   Kind = "all_sessions_logged_out"

	// DeletionRequested, DeletionCancelled and AccountDeleted: the owner did it, or an operator, whom the actor names. The
	// deletion after a grace has neither. AccountExported: all data about the owner was handed out.
	DeletionRequested Kind = "deletion_requested"
	DeletionCancelled Kind = "deletion_cancelled"
	AccountDeleted    Kind = "account_deleted"
	AccountExported   Kind = "account_exported"

	UserSuspended       Kind = "user_suspended"
	UserReactivated     Kind = "user_reactivated"
	UserSessionRevoked  Kind = "user_session_revoked"
	UserSessionsRevoked Kind = "user_sessions_revoked"
	AllSessionsRevoked  Kind = "all_sessions_revoked"
	// UserFactorsRemoved: an operator removed the second factors of an account and ended its sessions.
	UserFactorsRemoved Kind = "user_factors_removed"
	// UserEmailVerified: an operator marked the address as proved.
	UserEmailVerified Kind = "user_email_verified"
	// UserEmailChanged: an operator changed the address of an account and ended its sessions.
	UserEmailChanged Kind = "user_email_changed"
)

// repeatsCounted is how long repeats are counted in the first event: within the grace, a thief can repeat a refresh
// thousands of times.
const repeatsCounted = time.Minute

// Event is one row of the trail.
type Event struct {
	Time time.Time
	Kind Kind
	// UserID is the account of the event. It is uuid.Nil if the event is of no account, as when all sessions are
	// revoked.
	UserID uuid.UUID
	// SessionID is the session that acted or was ended, or uuid.Nil.
	SessionID uuid.UUID
	// Address, TraceID and CallID are the caller's. They are "" for work without a caller.
	Address, TraceID, CallID string
	// Actor is "operator:KEY" if an operator called, see [caller.Caller.Operator], and else "".
	Actor string
}

// Trail writes events. Use New.
type Trail struct {
	now       func() time.Time
	queries   *db.Queries
	repeating keyedLocks // by session
}

// New returns a Trail. now gives the time of events.
func New(now func() time.Time) *Trail { return &Trail{now: now, queries: db.New()} }

// Event returns an event of the current caller, and does not write it.
func (t *Trail) Event(ctx context.Context, kind Kind, userID, sessionID uuid.UUID) Event {
	c := caller.From(ctx)
	return Event{
		Time: t.now(), Kind: kind, UserID: userID, SessionID: sessionID,
		Address: c.AddressText(), TraceID: c.TraceID, CallID: c.CallID, Actor: actor(c),
	}
}

func actor(c caller.Caller) string {
	if c.Operator() == "" {
		return ""
	}
	return Operator + ":" + c.Operator()
}

// Record writes an event of the current caller. If the event reports a fact that is stored, on is the transaction of
// that fact.
func (t *Trail) Record(ctx context.Context, on db.DBTX, kind Kind, userID, sessionID uuid.UUID) error {
	return t.Write(ctx, on, t.Event(ctx, kind, userID, sessionID))
}

// Write writes an event, which may have no caller.
func (t *Trail) Write(ctx context.Context, on db.DBTX, e Event) error {
	return t.queries.RecordAuditEvent(ctx, on, db.RecordAuditEventParams{
		CreatedAt: e.Time, Kind: string(e.Kind), UserID: e.UserID,
		SessionID: uuid.NullUUID{UUID: e.SessionID, Valid: e.SessionID != uuid.Nil},
		Address:   e.Address, TraceID: e.TraceID, CallID: e.CallID, Actor: e.Actor,
	})
}

// RecordRepeated is Record for an event that a caller can cause over and over in one session. The first one is written,
// and counts the others in the next minute.
func (t *Trail) RecordRepeated(ctx context.Context, on db.DBTX, kind Kind, userID, sessionID uuid.UUID) error {
	// One at a time: calls at the same moment would each find no event.
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

// RecordAttemptedSignUp writes the event that belongs to the mail notice in the same transaction. It writes none within
// an hour of that notice.
func (t *Trail) RecordAttemptedSignUp(ctx context.Context, on db.DBTX, userID uuid.UUID, notice string) error {
	e := t.Event(ctx, SignUpAttempted, userID, uuid.Nil)
	return t.queries.RecordSignUpAttempt(ctx, on, db.RecordSignUpAttemptParams{
		CreatedAt: e.Time, Kind: string(e.Kind), UserID: e.UserID,
		Address: e.Address, TraceID: e.TraceID, CallID: e.CallID, Notice: notice,
	})
}

// Newest returns the kind and the session of the last event of an account, which the caller has locked. It returns zero
// values if there is none.
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

// KnowsSession returns whether the account ever had the session: whether the trail has an event of it other than its
// end. The end does not count, because anybody can ask to end any id.
func (t *Trail) KnowsSession(ctx context.Context, on db.DBTX, userID, sessionID uuid.UUID) (bool, error) {
	began, err := t.queries.SessionInTrail(ctx, on, db.SessionInTrailParams{UserID: userID, SessionID: sessionID})
	if err != nil {
		return false, fmt.Errorf("look the session up in the audit trail: %w", err)
	}
	return began, nil
}
