package server_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// chosenTrace is a trace id that a caller invents, or has seen in a call of somebody else.
const chosenTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// traced sends that trace id, and all other headers in which services name calls.
func traced(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+chosenTrace+"-00f067aa0ba902b7-01",
		"call-id", chosenTrace, "x-request-id", chosenTrace, "request-id", chosenTrace)
}

// auditRow has the ids of the call of an audit event.
type auditRow struct{ Kind, TraceID, CallID string }

func auditRows(t *testing.T, s *testenv.Server) []auditRow {
	t.Helper()
	found, err := s.Pool.Query(t.Context(), "SELECT kind, trace_id, call_id FROM audit_events ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pgx.CollectRows(found, pgx.RowToStructByPos[auditRow])
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A caller gives each of its calls the trace id of another call. The audit trail and the log still distinguish the
// calls, for events of every part of the code.
func TestAttack19TraceIDs(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	ctx := traced(t.Context())
	user := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	signed, err := s.Auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "Lovelace"})
	user(err)
	logIn := func() *latchkeyv1.Tokens {
		t.Helper()
		resp, err := s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
		user(err)
		return resp.GetTokens()
	}
	own, other, third := logIn(), logIn(), logIn()
	for range 2 {
		_, err = s.Auth.RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: third.GetRefreshToken()})
		user(err) // the second is a repeat in the grace
	}
	_, err = s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: third.GetRefreshToken()})
	user(err)
	asOwn := traced(as(t, own))
	_, err = s.SessionService.RevokeSession(asOwn, &latchkeyv1.RevokeSessionRequest{SessionId: other.GetSessionId()})
	user(err)
	_, err = s.SessionService.RevokeOtherSessions(asOwn, &latchkeyv1.RevokeOtherSessionsRequest{})
	user(err)
	_, err = s.Auth.ChangePassword(asOwn, &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword})
	user(err)
	_, err = s.Auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: own.GetRefreshToken(), AllSessions: true})
	user(err)
	_, err = s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: email})
	user(err)
	testenv.Eventually(t, patience, "the link is made", func() bool {
		return count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'password_reset_requested'") == 1
	})
	admin := traced(asAdmin(t))
	_, err = s.Admin.RevokeUserSessions(admin, &latchkeyv1.RevokeUserSessionsRequest{UserId: signed.GetUser().GetId()})
	user(err)
	_, err = s.Admin.SuspendUser(admin, &latchkeyv1.SuspendUserRequest{UserId: signed.GetUser().GetId()})
	user(err)
	_, err = s.Admin.ReactivateUser(admin, &latchkeyv1.ReactivateUserRequest{UserId: signed.GetUser().GetId()})
	user(err)
	_, err = s.Admin.RevokeAllSessions(admin, &latchkeyv1.RevokeAllSessionsRequest{})
	user(err)
	wantOwnCalls(t, s, 15)
}

// wantOwnCalls checks that each of the events, one for each call, names a call in the log that no other event names.
func wantOwnCalls(t *testing.T, s *testenv.Server, events int) {
	t.Helper()
	rows, seen := auditRows(t, s), map[string]string{}
	if len(rows) != events {
		t.Errorf("%d events, want %d: %v", len(rows), events, rows)
	}
	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, row := range rows {
		if row.TraceID != chosenTrace {
			t.Errorf("%s: trace id %q: it is the caller's to choose", row.Kind, row.TraceID)
		}
		if !form.MatchString(row.CallID) || row.CallID == chosenTrace {
			t.Errorf("%s: call id %q", row.Kind, row.CallID)
		}
		if by, taken := seen[row.CallID]; taken {
			t.Errorf("%s and %s name one call", by, row.Kind)
		}
		seen[row.CallID] = row.Kind
		if !strings.Contains(string(s.Logs.Bytes()), `"trace_id":"`+chosenTrace+`","call_id":"`+row.CallID+`"`) {
			t.Errorf("%s: the log does not know the call", row.Kind)
		}
	}
}
