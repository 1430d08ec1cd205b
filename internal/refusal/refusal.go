// Package refusal has the answers that a client can act on: a code, a reason of the contract, a text and details. Flows
// return them, and server/errors.go turns them into gRPC statuses.
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

// ErrStoreUnavailable is wrapped by errors of hooks whose store did not answer. The server answers with
// STORE_UNAVAILABLE, as it does for the same errors of leaf packages.
var ErrStoreUnavailable = errors.New("a store did not answer")

// Error is an answer that the client can act on.
type Error struct {
	Code   codes.Code
	Reason latchkeyv1.ErrorReason
	// Message is shown to callers. It must hold no secret.
	Message string
	// Details are sent with the status, beside the reason.
	Details []protoadapt.MessageV1
	// Metadata are further facts for clients, in the metadata of the ErrorInfo. May be nil.
	Metadata map[string]string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// New returns a refusal.
func New(code codes.Code, reason latchkeyv1.ErrorReason, message string, details ...protoadapt.MessageV1) error {
	return &Error{Code: code, Reason: reason, Message: message, Details: details}
}

// Field refuses one field of the request. rule is the name of the rule that it breaks.
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

// Is returns whether err wraps a refusal with one of the reasons.
func Is(err error, reasons ...latchkeyv1.ErrorReason) bool {
	found := In(err)
	return found != nil && slices.Contains(reasons, found.Reason)
}

// RetryInfo returns the detail that says when to try again.
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

// CurrentPassword refuses a wrong current password, which the owner of a session typed to change something.
func CurrentPassword() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS, "not the account's current password")
}

// AccountDisabled refuses the owner of a suspended account. Use it only after the right password.
func AccountDisabled() error {
	return New(codes.PermissionDenied, latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED, "the account is disabled")
}

// AccountLeaving refuses the owner of an account that is to be deleted, and says when. Use it only after the right
// password.
func AccountLeaving(deleteTime time.Time) error {
	at := deleteTime.UTC().Format(time.RFC3339)
	return &Error{
		Code: codes.PermissionDenied, Reason: latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED,
		Message:  "the account will be deleted at " + at + ": log in with cancel_deletion to keep it",
		Metadata: map[string]string{"delete_time": at},
	}
}

// RefreshTokenInvalid refuses a refresh token and ends nothing.
func RefreshTokenInvalid() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_INVALID, "not a current refresh token: log in again")
}

// RefreshTokenReused refuses a refresh token whose reuse has ended its session.
func RefreshTokenReused() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_REUSED, "the refresh token was used before, so its session was ended: log in again")
}

// SessionEnded refuses a session that has ended. Use it only when the end is final.
func SessionEnded() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED, "the session has ended: log in again")
}

// FreshLoginRequired refuses an access token whose authentication is not recent enough for the method.
func FreshLoginRequired() error {
	return New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_FRESH_LOGIN_REQUIRED,
		"this needs a more recent login: call Reauthenticate and send the access token that it answers with")
}

// FactorRequired refuses an access token whose authentication had one factor only.
func FactorRequired() error {
	return New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_FACTOR_REQUIRED,
		"this needs a second factor: call Reauthenticate with it and send the access token that it answers with")
}

// VerificationRequired refuses a client whose contract cannot ask for the account's second factor. Use it only after the
// right password.
func VerificationRequired() error {
	return New(codes.PermissionDenied, latchkeyv1.ErrorReason_ERROR_REASON_FACTOR_REQUIRED, "additional verification required")
}

// ChallengeInvalid refuses the token of a challenge.
func ChallengeInvalid() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_CHALLENGE_INVALID,
		"the challenge is unknown, answered, expired or was answered wrongly too often: log in again")
}

// FactorCodeInvalid refuses a code of a second factor in a field of the request.
func FactorCodeInvalid(field string) error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_CODE_INVALID, field, "CODE_INVALID", "is wrong, was used before or has expired")
}

// SessionNotFound refuses an id that no live session of the account has.
func SessionNotFound() error {
	return New(codes.NotFound, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "the account has no such live session")
}

// NotUpToDate refuses a call that needs the newest revocations. This replica has lost its lease, and already asks
// PostgreSQL for as many calls as it may.
func NotUpToDate() error {
	return New(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"this replica does not know the newest revocations: try again", RetryInfo(time.Second))
}

// ResetTokenInvalid refuses the token of a reset link.
func ResetTokenInvalid() error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID, "token", "RESET_TOKEN_INVALID", "is unknown, spent, expired or replaced by a newer one: ask for a new link")
}

// LinkInvalid refuses the token of a mailed link.
func LinkInvalid() error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_LINK_INVALID, "token", "LINK_INVALID", "is unknown, spent, expired or replaced by a newer one: ask for a new mail")
}

// CodeInvalid refuses a mailed code. It does not say whether there is such an account.
func CodeInvalid() error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_CODE_INVALID, "code", "CODE_INVALID", "is wrong, spent, expired or was tried too often: look at the newest mail, or ask for a new one")
}

// AuthorizationCodeInvalid refuses an authorization code. All that can be wrong with it has this one answer.
func AuthorizationCodeInvalid() error {
	return Field(latchkeyv1.ErrorReason_ERROR_REASON_CODE_INVALID, "code", "CODE_INVALID",
		"is unknown, spent, expired, of an ended session, or was made for another redirect_uri or code_verifier: begin again")
}

// EmailNotVerified refuses a login until the address is proved. Use it only after the right password.
func EmailNotVerified() error {
	return New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_EMAIL_NOT_VERIFIED,
		"the email address is not verified: open the link or type the code of the mail that was just sent")
}

// NotEnabled refuses a method that the settings turn off. why ends the sentence and holds no secret.
func NotEnabled(why string) error {
	return New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_NOT_ENABLED, why)
}

// AccountNotFound refuses an id or an address that no account has. It is for operators.
func AccountNotFound() error {
	return New(codes.NotFound, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "there is no such account")
}

// AccountGone refuses a session whose account was deleted.
func AccountGone() error {
	return New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "the account is gone")
}
