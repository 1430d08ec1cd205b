package server

import (
	"context"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// auditKind names what happened to an account.
type auditKind string

// The kinds are stored: rename none.
const (
	auditSignedUp auditKind = "signed_up"
	// With LATCHKEY_HIDE_ACCOUNTS: of which the owner is told by mail, one an hour.
	auditSignUpAttempted auditKind = "sign_up_attempted"
	auditLoggedIn        auditKind = "logged_in"
	auditLoggedOut       auditKind = "logged_out"
	// Failures are sampled: the first five of 15 minutes, then each tenth.
	auditLoginFailed    auditKind = "login_failed"
	auditLoginsLimited  auditKind = "logins_limited"
	auditPasswordClosed auditKind = "password_login_closed"
	// A device is as good as an unknown one, or a session cannot change the password any more.
	auditClientClosed auditKind = "password_client_closed"

	auditRefreshRepeat   auditKind = "refresh_repeated"
	auditRefreshCaughtUp auditKind = "refresh_caught_up"
	auditRefreshReused   auditKind = "refresh_reused"
	auditLegacyTraded    auditKind = "legacy_refresh_traded"
	auditResetRequested  auditKind = "password_reset_requested"
	auditPasswordReset   auditKind = "password_reset"
	auditPasswordChanged auditKind = "password_changed"
	auditSessionEvicted  auditKind = "session_evicted"
	auditSessionRevoked  auditKind = "session_revoked"
	auditOthersRevoked   auditKind = "other_sessions_revoked"
	auditAllLoggedOut    auditKind = "all_sessions_logged_out"

	auditUserSuspended       auditKind = "user_suspended"
	auditUserReactivated     auditKind = "user_reactivated"
	auditUserSessionRevoked  auditKind = "user_session_revoked"
	auditUserSessionsRevoked auditKind = "user_sessions_revoked"
	auditAllSessionsRevoked  auditKind = "all_sessions_revoked"
)

// audit writes one event, in the transaction of the fact where there is one.
func (s *Server) audit(ctx context.Context, on db.DBTX, kind auditKind, userID, sessionID uuid.UUID) error {
	c := callFrom(ctx)
	return s.queries.RecordAuditEvent(ctx, on, db.RecordAuditEventParams{
		CreatedAt: s.cfg.Now(),
		Kind:      string(kind),
		UserID:    userID,
		SessionID: uuid.NullUUID{UUID: sessionID, Valid: sessionID != uuid.Nil},
		Address:   addressText(c),
		TraceID:   c.traceID,
		CallID:    c.id,
	})
}
