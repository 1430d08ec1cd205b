package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "latchkey"

// reasonPrefix is the prefix of the names in the enum, which ErrorInfo.reason does not have.
const reasonPrefix = "ERROR_REASON_"

// statusOf is the only place that turns errors into statuses for clients. unforeseen means that the error was not
// expected: the log has it, and the client gets only the trace id.
func statusOf(err error, traceID string) (st *status.Status, unforeseen bool) {
	if known := RefusalIn(err); known != nil {
		return statusOfRefusal(known, traceID), false
	}
	if errors.Is(err, context.Canceled) {
		return withDetails(status.New(codes.Canceled, "the call was canceled"), &errdetails.RequestInfo{RequestId: traceID}), false
	}
	// An error of gRPC, such as Unimplemented from a registered service.
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) {
		return own.GRPCStatus(), false
	}
	return withDetails(status.New(codes.Internal, "internal error, see the log for trace id "+traceID), &errdetails.RequestInfo{RequestId: traceID}), true
}

// RefusalIn returns the refusal that the server makes of an error, or nil.
func RefusalIn(err error) *refusal.Error {
	if known := refusal.In(err); known != nil {
		return known
	}
	return refusalOf(err)
}

// refusalOf maps the errors of the leaf packages.
func refusalOf(err error) *refusal.Error {
	var overloaded *password.OverloadedError
	var limited *ratelimit.LimitedError
	switch {
	case errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &overloaded):
		return &refusal.Error{
			Code: codes.ResourceExhausted, Reason: latchkeyv1.ErrorReason_ERROR_REASON_OVERLOADED,
			Message: "too many passwords are being checked to finish in time: try again later",
			Details: []protoadapt.MessageV1{refusal.RetryInfo(overloaded.RetryAfter)},
		}
	case errors.As(err, &limited):
		return &refusal.Error{
			Code: codes.ResourceExhausted, Reason: latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			Message: fmt.Sprintf("too many attempts: try again in %s", max(limited.RetryAfter.Round(time.Second), time.Second)),
			Details: []protoadapt.MessageV1{refusal.RetryInfo(limited.RetryAfter)},
		}
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, ratelimit.ErrUnavailable),
		errors.Is(err, signing.ErrUnavailable), errors.Is(err, refusal.ErrStoreUnavailable), postgres.IsUnavailable(err):
		return &refusal.Error{
			Code: codes.Unavailable, Reason: latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
			Message: "a store did not answer: try again",
			Details: []protoadapt.MessageV1{refusal.RetryInfo(time.Second)},
		}
	}
	return nil
}

func statusOfRefusal(r *refusal.Error, traceID string) *status.Status {
	info := &errdetails.ErrorInfo{Reason: r.Reason.String()[len(reasonPrefix):], Domain: errorDomain, Metadata: r.Metadata}
	details := append([]protoadapt.MessageV1{info, &errdetails.RequestInfo{RequestId: traceID}}, r.Details...)
	return withDetails(status.New(r.Code, r.Message), details...)
}

// withDetails cannot fail for an error status with well-known details. If it did, the status without details would
// still be right.
func withDetails(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	with, err := st.WithDetails(details...)
	if err != nil {
		return st
	}
	return with
}

func (s *Server) mapError(ctx context.Context, method string, err error) error {
	c := caller.From(ctx)
	st, unforeseen := statusOf(err, c.TraceID)
	switch {
	case unforeseen:
		s.log.ErrorContext(ctx, "internal error", "method", method, "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	case st.Code() == codes.Unavailable && !isStreamEnd(err):
		s.ready.doubts.meet(err, clockNow())
		s.log.WarnContext(ctx, "store unavailable", "method", method, "trace_id", c.TraceID, "call_id", c.CallID, "error", err)
	}
	return st.Err()
}

// invalidRequest turns violations of rules into field violations. Their texts name rules, never values.
func invalidRequest(err error) error {
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return fmt.Errorf("validate: %w", err)
	}
	bad := &errdetails.BadRequest{}
	texts := make([]string, 0, len(invalid.Violations))
	for _, v := range invalid.Violations {
		field := protovalidate.FieldPathString(v.Proto.GetField())
		message := v.Proto.GetMessage()
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       field,
			Description: message,
			Reason:      strings.ToUpper(strings.ReplaceAll(v.Proto.GetRuleId(), ".", "_")),
		})
		texts = append(texts, field+": "+message)
	}
	return refusal.New(codes.InvalidArgument, latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, strings.Join(texts, "; "), bad)
}
