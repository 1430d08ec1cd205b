package server_test

import (
	"fmt"
	"strings"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestRPCMetrics shows that calls, streams and their messages are counted under the names that dashboards know, and that
// what never happened is there as zero.
func TestRPCMetrics(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	wantValid(t, s, tokens.GetAccessToken(), 0)
	if _, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{}); err == nil {
		t.Fatal("an empty token is accepted")
	}
	stream, err := latchkeyv1.NewRevocationServiceClient(s.Conn).WatchRevocations(testenv.WithKey(t.Context(), testenv.ServiceKey), &latchkeyv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	received := 0
	for complete := false; !complete; received++ {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		complete = resp.GetComplete()
	}
	line := func(name, kind, service, method string, value int) string {
		return fmt.Sprintf(`%s{grpc_method="%s",grpc_service="latchkey.v1.%s",grpc_type="%s"} %d`, name, method, service, kind, value)
	}
	handled := func(code, kind, service, method string, value int) string {
		return fmt.Sprintf(`grpc_server_handled_total{grpc_code="%s",grpc_method="%s",grpc_service="latchkey.v1.%s",grpc_type="%s"} %d`,
			code, method, service, kind, value)
	}
	metrics := metricsText(t, s)
	for _, want := range []string{
		line("grpc_server_started_total", "unary", "AuthService", "ValidateToken", 2),
		line("grpc_server_msg_received_total", "unary", "AuthService", "ValidateToken", 2),
		line("grpc_server_msg_sent_total", "unary", "AuthService", "ValidateToken", 2),
		line("grpc_server_handling_seconds_count", "unary", "AuthService", "ValidateToken", 2),
		handled("OK", "unary", "AuthService", "ValidateToken", 1),
		handled("InvalidArgument", "unary", "AuthService", "ValidateToken", 1),
		handled("Internal", "unary", "AuthService", "ValidateToken", 0),
		handled("Unauthenticated", "unary", "AuthService", "Logout", 0),
		line("grpc_server_started_total", "server_stream", "RevocationService", "WatchRevocations", 1),
		line("grpc_server_msg_received_total", "server_stream", "RevocationService", "WatchRevocations", 1),
		handled("OK", "server_stream", "RevocationService", "WatchRevocations", 0),
		line("grpc_server_started_total", "client_stream", "AdminService", "ImportUsers", 0),
		`grpc_server_handling_seconds_bucket{grpc_method="ValidateToken",grpc_service="latchkey.v1.AuthService",grpc_type="unary",le="0.0001"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	// The server may have sent more than was read here.
	if strings.Contains(metrics, line("grpc_server_msg_sent_total", "server_stream", "RevocationService", "WatchRevocations", received-1)) {
		t.Errorf("the metrics count less than %d messages of the stream", received)
	}
}
