// Package refusal has the answers that a client can act on: a code, a reason of the contract, a text and details. Flows
// return them, and server/errors.go makes the status of gRPC of them.
package refusal

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// ErrStoreUnavailable is wrapped by the errors of hooks whose store did not answer. The server answers them with
// STORE_UNAVAILABLE, as it does the errors of the leaf packages for the same.
var ErrStoreUnavailable = errors.New("a store did not answer")

// Error is an answer that the client can act on.
type Error struct {
	Code   codes.Code
	Reason latchkeyv1.ErrorReason
	// Message is shown to callers and holds nothing secret.
	Message string
	// Details go with the status beside the reason.
	Details []protoadapt.MessageV1
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// New returns a refusal.
func New(code codes.Code, reason latchkeyv1.ErrorReason, message string, details ...protoadapt.MessageV1) error {
	return &Error{code, reason, message, details}
}

// Field refuses one field of the request; rule names what it breaks.
func Field(reason latchkeyv1.ErrorReason, field, rule, message string) error {
	return New(codes.InvalidArgument, reason, field+": "+message, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message, Reason: rule}},
	})
}

// In returns the refusal that err wraps, or nil.
func In(err error) *Error {
	found, _ := errors.AsType[*Error](err)
	return found
}

// Is says whether err wraps a refusal for one of the reasons.
func Is(err error, reasons ...latchkeyv1.ErrorReason) bool {
	found := In(err)
	return found != nil && slices.Contains(reasons, found.Reason)
}

// RetryInfo is the detail that says when to try again.
func RetryInfo(after time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

// EmailTaken refuses an address that another account has.
func EmailTaken() error {
	return New(codes.AlreadyExists, latchkeyv1.ErrorReason_ERROR_REASON_EMAIL_TAKEN, "an account has this email address")
}

// InvalidCredentials refuses a login. It does not say whether there is such an account.
func InvalidCredentials() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS, "invalid email or password")
}

// CurrentPassword refuses a password that a session's owner has typed to change something.
func CurrentPassword() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS, "not the account's current password")
}

// AccountDisabled refuses the owner of a suspended account, after the right password only.
func AccountDisabled() error {
	return New(codes.PermissionDenied, latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED, "the account is disabled")
}

// RefreshTokenInvalid refuses a refresh token and ends nothing.
func RefreshTokenInvalid() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_INVALID, "not a current refresh token: log in again")
}

// RefreshTokenReused refuses a refresh token whose reuse has ended its session.
func RefreshTokenReused() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_REUSED, "the refresh token was used before, so its session was ended: log in again")
}

// SessionEnded refuses a session that has ended, once that is final.
func SessionEnded() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED, "the session has ended: log in again")
}

// SessionNotFound refuses an identifier that no live session of the account has.
func SessionNotFound() error {
	return New(codes.NotFound, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "the account has no such live session")
}

// NotUpToDate refuses a call that needs the newest revocations: this replica has lost its lease, and asks PostgreSQL for
// as many calls as it may.
func NotUpToDate() error {
	return New(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"this replica does not know the newest revocations: try again", RetryInfo(time.Second))
}

// ResetTokenInvalid refuses the token of a reset link.
func ResetTokenInvalid() error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID, "token", "RESET_TOKEN_INVALID", "is unknown, spent, expired or replaced by a newer one: ask for a new link")
}

// AccountNotFound tells an operator that nobody has the identifier or address.
func AccountNotFound() error {
	return New(codes.NotFound, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "there is no such account")
}

// AccountGone refuses a session whose account was deleted.
func AccountGone() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "the account is gone")
}
