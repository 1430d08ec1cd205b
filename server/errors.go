package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/token"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "latchkey"

// reasonPrefix is what the enum's names have and ErrorInfo.reason does not.
const reasonPrefix = "ERROR_REASON_"

// refusal is an answer that the client can act on. Its text is shown to callers
// and holds nothing secret.
type refusal struct {
	code    codes.Code
	reason  latchkeyv1.ErrorReason
	message string
	details []protoadapt.MessageV1
}

// Error implements error.
func (r *refusal) Error() string { return r.message }

func refuse(code codes.Code, reason latchkeyv1.ErrorReason, message string, details ...protoadapt.MessageV1) error {
	return &refusal{code, reason, message, details}
}

// refuseField refuses one field of the request.
func refuseField(reason latchkeyv1.ErrorReason, field, rule, message string) error {
	return refuse(codes.InvalidArgument, reason, field+": "+message, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message, Reason: rule}},
	})
}

func errEmailTaken() error {
	return refuse(codes.AlreadyExists, latchkeyv1.ErrorReason_ERROR_REASON_EMAIL_TAKEN, "an account has this email address")
}

func errInvalidCredentials() error {
	return refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS, "invalid email or password")
}

func errAccountDisabled() error {
	return refuse(codes.PermissionDenied, latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED, "the account is disabled")
}

func errRefreshTokenInvalid() error {
	return refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_INVALID, "not a current refresh token: log in again")
}

func errRefreshTokenReused() error {
	return refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_REUSED, "the refresh token was used before, so its session was ended: log in again")
}

func errSessionEnded() error {
	return refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED, "the session has ended: log in again")
}

// errNotUpToDate: this replica has lost its lease, and asks PostgreSQL for as many
// calls as it may.
func errNotUpToDate() error {
	return refuse(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"this replica does not know the newest revocations: try again", retryInfo(time.Second))
}

func errResetTokenInvalid() error {
	return refuseField(latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID, "token", "RESET_TOKEN_INVALID", "is unknown, spent, expired or replaced by a newer one: ask for a new link")
}

func errUserNotFound() error {
	return refuse(codes.NotFound, latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND, "there is no such account")
}

// hashError is an error of the hasher. A deadline that passed in its queue is an
// overload: trying again at once would only make it longer.
func hashError(doing string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = &password.OverloadedError{RetryAfter: time.Second}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// statusOf is the one place where errors become what clients see. The bool says
// that the error was not foreseen: it is for the log, and the client gets no more
// than the trace id.
func statusOf(err error, traceID string) (st *status.Status, unforeseen bool) {
	if known := refusalIn(err); known != nil {
		return known.status(traceID), false
	}
	if errors.Is(err, context.Canceled) {
		return withDetails(status.New(codes.Canceled, "the call was canceled"), &errdetails.RequestInfo{RequestId: traceID}), false
	}
	// gRPC's own, such as Unimplemented from a registered service.
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) {
		return own.GRPCStatus(), false
	}
	return withDetails(status.New(codes.Internal, "internal error, see the log for trace id "+traceID), &errdetails.RequestInfo{RequestId: traceID}), true
}

// refusalIn is the refusal that an error becomes, or nil.
func refusalIn(err error) *refusal {
	if known, ok := errors.AsType[*refusal](err); ok {
		return known
	}
	return refusalOf(err)
}

// refusedFor says whether err becomes a refusal for one of the reasons.
func refusedFor(err error, reasons ...latchkeyv1.ErrorReason) bool {
	known := refusalIn(err)
	return known != nil && slices.Contains(reasons, known.reason)
}

// refusalOf knows the errors of the leaf packages.
func refusalOf(err error) *refusal {
	var overloaded *password.OverloadedError
	var limited *ratelimit.LimitedError
	switch {
	case errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &overloaded):
		return &refusal{
			codes.ResourceExhausted, latchkeyv1.ErrorReason_ERROR_REASON_OVERLOADED,
			"too many passwords are being checked to finish in time: try again later",
			[]protoadapt.MessageV1{retryInfo(overloaded.RetryAfter)},
		}
	case errors.As(err, &limited):
		return &refusal{
			codes.ResourceExhausted, latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			fmt.Sprintf("too many attempts: try again in %s", max(limited.RetryAfter.Round(time.Second), time.Second)),
			[]protoadapt.MessageV1{retryInfo(limited.RetryAfter)},
		}
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, ratelimit.ErrUnavailable),
		errors.Is(err, token.ErrUnavailable), errors.Is(err, legacy.ErrUnavailable), postgres.IsUnavailable(err):
		return &refusal{
			codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
			"a store did not answer: try again",
			[]protoadapt.MessageV1{retryInfo(time.Second)},
		}
	}
	return nil
}

func retryInfo(after time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

func (r *refusal) status(traceID string) *status.Status {
	info := &errdetails.ErrorInfo{Reason: r.reason.String()[len(reasonPrefix):], Domain: errorDomain}
	details := append([]protoadapt.MessageV1{info, &errdetails.RequestInfo{RequestId: traceID}}, r.details...)
	return withDetails(status.New(r.code, r.message), details...)
}

// withDetails cannot fail on an error status with well-known details; were it to,
// the bare status is still right.
func withDetails(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	with, err := st.WithDetails(details...)
	if err != nil {
		return st
	}
	return with
}
