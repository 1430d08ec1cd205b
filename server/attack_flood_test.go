package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// logged counts the lines of each kind, and those that were left out.
func logged(t *testing.T, s *testenv.Server) (written, left map[string]int) {
	t.Helper()
	written, left = map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(s.Logs.Bytes())) {
		var entry struct {
			Msg, Of, Method, Code string
			Count                 int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		method := entry.Method[strings.LastIndex(entry.Method, "/")+1:]
		if entry.Msg == "lines left out" {
			left[strings.TrimSpace(entry.Of+" "+method+" "+entry.Code)] += entry.Count
		} else {
			written[strings.TrimSpace(entry.Msg+" "+method+" "+entry.Code)]++
		}
	}
	return written, left
}

// Calls as fast as possible, good or bad, write a few lines a second. No call is lost: the rest are counted in the log
// and in the metrics.
func TestAttack08LogOfAFlood(t *testing.T) {
	t.Parallel()
	const most, calls = 20, 500
	s := testenv.Start(t, testenv.Options{LogLines: most})
	tokens := account(t, s)
	flood := func() {
		for range calls {
			_, _ = s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "garbage"})
			_, _ = s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{})
			_, _ = s.Auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: "garbage"})
		}
	}
	kinds := []string{"rpc ValidateToken OK", "rpc ValidateToken InvalidArgument", "rpc RefreshToken Unauthenticated"}
	for second := 1; second <= 2; second++ {
		flood()
		testenv.Eventually(t, patience, "all calls are told of", func() bool {
			written, left := logged(t, s)
			for _, kind := range kinds {
				if written[kind] != second*most || written[kind]+left[kind] != second*calls {
					return false
				}
			}
			return true
		})
		s.Clock.Advance(time.Second)
	}
	metrics := metricsText(t, s)
	want := fmt.Sprintf(`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="ValidateToken",grpc_service="latchkey.v1.AuthService",grpc_type="unary"} %d`, 2*calls)
	if !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s", want)
	}

	// Calls that always fail, with any code.
	execSQL(t, s, "DROP TABLE revocations")
	for range calls {
		if err := tryRefreshOnce(t, s, tokens.GetRefreshToken()); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, patience, "all failures are told of", func() bool {
		written, left := logged(t, s)
		const kind = "internal error RefreshToken"
		return written[kind] == most && written[kind]+left[kind] == calls
	})
}

func tryRefreshOnce(t *testing.T, s *testenv.Server, token string) error {
	t.Helper()
	_, err := tryRefresh(t.Context(), s, token, "")
	return err
}

// Invented names of methods are not kinds of lines, because there would be as many kinds as calls. They are not in the
// log.
func TestAttack08UnknownMethods(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{LogLines: 20})
	signUp(t, s, email)
	before := s.Server.FloodKinds()
	for i := range 200 {
		for _, service := range []string{"latchkey.v1.AuthService", "latchkey.v1.AdminService", "auth.AuthService", "grpc.health.v1.Health", "stranger.Service"} {
			method := fmt.Sprintf("/%s/Stranger%d", service, i)
			err := s.Conn.Invoke(t.Context(), method, &latchkeyv1.LoginRequest{Email: email, Password: password}, &latchkeyv1.LoginResponse{})
			if status.Code(err) != codes.Unimplemented {
				t.Fatalf("%s: %v", method, err)
			}
		}
	}
	if kinds := s.Server.FloodKinds(); kinds > before+1 {
		t.Errorf("%d kinds of lines after 1,000 names, %d before", kinds, before)
	}
	if log := string(s.Logs.Bytes()); strings.Contains(log, "Stranger") {
		t.Error("the log has the names of strangers")
	}
}
