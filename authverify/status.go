package authverify

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

const (
	// errorDomain is the domain of Latchkey's ErrorInfo.
	errorDomain = "latchkey"
	// retryAfter is when a check that was not possible may be: streams are resumed within seconds.
	retryAfter = time.Second
)

// reasonText is a reason as ErrorInfo has it: without the enum's prefix.
func reasonText(reason latchkeyv1.ErrorReason) string {
	return reason.String()[len("ERROR_REASON_"):]
}

// refusal returns the answer to callers for an error of Verify, in the terms of Latchkey. The texts around the error are
// for logs only.
func refusal(err error) (code codes.Code, reason latchkeyv1.ErrorReason, message string) {
	switch {
	case errors.Is(err, ErrExpired):
		return codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED, "the access token has expired: refresh it"
	case errors.Is(err, ErrRevoked):
		return codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED, "the session has ended: log in again"
	case errors.Is(err, ErrUnavailable):
		return codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "access tokens cannot be checked at present: try again"
	}
	return codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID, "the access token is not accepted: log in again"
}

// statusError is refusal as gRPC says it.
func statusError(err error) error {
	code, reason, message := refusal(err)
	return newStatus(code, reason, message)
}

func newStatus(code codes.Code, reason latchkeyv1.ErrorReason, message string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reasonText(reason), Domain: errorDomain}}
	if code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	bare := status.New(code, message)
	with, err := bare.WithDetails(details...)
	if err != nil { // it cannot be, with these details; were it, the bare status is still right
		return bare.Err()
	}
	return with.Err()
}
