package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/server"
)

func TestTraceID(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, takenUp := range map[string]bool{
		"00-" + trace + "-00f067aa0ba902b7-01":                  true,
		"cc-" + trace + "-00f067aa0ba902b7-01-what-comes-later": true,
		"00-" + trace + "-00f067aa0ba902b7-01-extra":            false,
		"00-" + trace + "-00f067aa0ba902b7-0g":                  false,
		"00-" + trace + "-0000000000000000-01":                  false,
		"00-" + trace + "-00F067AA0BA902B7-01":                  false,
		"ff-" + trace + "-00f067aa0ba902b7-01":                  false,
		"0g-" + trace + "-00f067aa0ba902b7-01":                  false,
		"cc-" + trace + "-00f067aa0ba902b7-01x":                 false,
		"garbage":                                               false,
		"":                                                      false,
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", header)
		var trailer metadata.MD
		_, err := s.Auth.RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: "garbage"}, grpc.Trailer(&trailer))
		ids := trailer.Get("trace-id")
		if len(ids) != 1 || len(ids[0]) != 32 || (ids[0] == trace) != takenUp {
			t.Errorf("%q: trailer %v", header, ids)
			continue
		}
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RequestInfo); ok && info.GetRequestId() != ids[0] {
				t.Errorf("%q: trailer %s, details %s", header, ids[0], info.GetRequestId())
			}
		}
		if !strings.Contains(string(s.Logs.Bytes()), `"trace_id":"`+ids[0]+`"`) {
			t.Errorf("%q: %s is not in the log", header, ids[0])
		}
	}
	// Good answers have it too.
	var trailer metadata.MD
	if _, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: email}, grpc.Trailer(&trailer)); err != nil || len(trailer.Get("trace-id")) != 1 {
		t.Errorf("%v, %v", trailer, err)
	}
}

// The client gets only the trace id, and the log has the error once.
func TestUnforeseenErrors(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	execSQL(t, s, "DROP TABLE revocations")
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	st := status.Convert(err)
	if st.Code() != codes.Internal || strings.Contains(st.Message(), "revocations") || len(st.Details()) != 1 {
		t.Fatalf("got %v", st.Proto())
	}
	info, ok := st.Details()[0].(*errdetails.RequestInfo)
	if !ok || !strings.Contains(st.Message(), info.GetRequestId()) {
		t.Fatalf("got %v", st.Proto())
	}
	logged := 0
	for line := range strings.Lines(string(s.Logs.Bytes())) {
		if strings.Contains(line, info.GetRequestId()) && strings.Contains(line, "revocations") {
			logged++
		}
	}
	if logged != 1 {
		t.Errorf("logged %d times", logged)
	}
}

func TestPanicsAreContained(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	s.Server.PanicIn(latchkeyv1.AuthService_ForgotPassword_FullMethodName)
	_, err := s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: email})
	if st := status.Convert(err); st.Code() != codes.Internal || strings.Contains(st.Message(), "a fault of the handler") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(string(s.Logs.Bytes()), "panic: ") || !strings.Contains(string(s.Logs.Bytes()), "export_test.go") {
		t.Error("the log does not say where it was")
	}
	signUp(t, s, email) // the server still works
}

func TestMethodWithoutPolicyIsNotServed(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	s.Server.SetPolicy(latchkeyv1.AuthService_ValidateToken_FullMethodName, nil)
	if _, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"}); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}

func TestDeadlineIsKept(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // ends the lock
	if _, err := tx.Exec(t.Context(), "LOCK TABLE users"); err != nil {
		t.Fatal(err)
	}
	// This is the server's own answer, in time: the client's deadline would have no details. On a busy machine 50 ms
	// may be too short for it to arrive first.
	var trailer metadata.MD
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err = s.Auth.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()}, grpc.Trailer(&trailer))
		cancel()
		if status.Code(err) != codes.DeadlineExceeded {
			break
		}
	}
	wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
	if len(trailer.Get("trace-id")) != 1 {
		t.Error("no trace id")
	}
}

// TestEveryMethodHasAPolicy checks every RPC that the server serves.
func TestEveryMethodHasAPolicy(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	policies := s.Server.Policies()
	for _, desc := range []grpc.ServiceDesc{
		latchkeyv1.AuthService_ServiceDesc, latchkeyv1.AdminService_ServiceDesc, latchkeyv1.SessionService_ServiceDesc, latchkeyv1.AccountService_ServiceDesc,
		authpb.AuthService_ServiceDesc,
	} {
		for _, method := range desc.Methods {
			full := "/" + desc.ServiceName + "/" + method.MethodName
			policy := policies[full]
			if policy.GetAuth() == latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED {
				t.Errorf("%s: %v", full, policy)
			}
			rate := policy.GetAddressRate()
			if (rate == nil) != (method.MethodName == "ValidateToken") || rate != nil && (rate.GetPerMinute() == 0 || rate.GetBurst() == 0) {
				t.Errorf("%s: rate %v", full, rate)
			}
		}
	}
	for _, services := range []map[string]grpc.ServiceInfo{
		{"latchkey.v1.AuthService": {Methods: []grpc.MethodInfo{{Name: "NoSuchMethod"}}}},
		{"latchkey.v1.NoSuchService": {Methods: []grpc.MethodInfo{{Name: "Login"}}}},
		// A real method that declares none.
		{"grpc.channelz.v1.Channelz": {Methods: []grpc.MethodInfo{{Name: "GetServers"}}}},
	} {
		if got, err := server.ReadPolicies(services); err == nil {
			t.Errorf("%v passed as %v", slices.Collect(maps.Keys(services)), got)
		}
	}
}

// A method of AUTH_CLASS_SESSION needs a good access token, sent once.
func TestSessionMethods(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	s.Server.SetPolicy(latchkeyv1.AuthService_ForgotPassword_FullMethodName, &latchkeyv1.Policy{Auth: latchkeyv1.AuthClass_AUTH_CLASS_SESSION})
	tokens := account(t, s)
	other := logIn(t, s, email)
	logOut(t, s, other.GetRefreshToken())
	access := tokens.GetAccessToken()
	call := func(values ...string) error {
		md := metadata.MD{}
		md.Append("authorization", values...)
		ctx := metadata.NewOutgoingContext(t.Context(), md)
		_, err := s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: email})
		return err
	}
	for _, good := range []string{"Bearer " + access, "bearer " + access, "BEARER " + access} {
		if err := call(good); err != nil {
			t.Errorf("%s…: %v", good[:10], err)
		}
	}
	for name, test := range map[string]struct {
		reason string
		values []string
	}{
		"none":          {"TOKEN_INVALID", nil},
		"no scheme":     {"TOKEN_INVALID", []string{access}},
		"basic":         {"TOKEN_INVALID", []string{"Basic " + access}},
		"empty":         {"TOKEN_INVALID", []string{"Bearer "}},
		"two":           {"TOKEN_INVALID", []string{"Bearer " + access, "Bearer " + access}},
		"refresh token": {"TOKEN_INVALID", []string{"Bearer " + tokens.GetRefreshToken()}},
		"forged":        {"TOKEN_INVALID", []string{"Bearer " + flip(access, len(access)-10)}},
		"logged out":    {"SESSION_ENDED", []string{"Bearer " + other.GetAccessToken()}},
	} {
		t.Log(name)
		wantRefused(t, call(test.values...), codes.Unauthenticated, test.reason)
	}
	md := metadata.Pairs("authorization", "Bearer "+access)
	ctx, err := s.Server.Authenticate(metadata.NewIncomingContext(t.Context(), md))
	if err != nil || server.CallerID(ctx) == "" {
		t.Errorf("the handler would not know its caller: %v", err)
	}
	// The caller is checked before the message is read.
	_, err = s.Auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{})
	wantRefused(t, err, codes.Unauthenticated, "TOKEN_INVALID")
	s.Clock.Advance(testenv.AccessTokenTTL)
	wantRefused(t, call("Bearer "+access), codes.Unauthenticated, "TOKEN_EXPIRED")
}

// A client is counted by the address that the trusted proxy names, and no header of its own helps it.
func TestAddressRate(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	}})
	burst := int(s.Server.Policies()[latchkeyv1.AuthService_ForgotPassword_FullMethodName].GetAddressRate().GetBurst())
	n := 0
	call := func(forwarded string) error {
		n++
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", forwarded)
		_, err := s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: fmt.Sprintf("u%d@example.com", n)})
		return err
	}
	for i := range burst {
		if err := call("203.0.113.7"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	for _, same := range []string{"203.0.113.7", "1.2.3.4, 203.0.113.7", "203.0.113.7, 10.1.2.3", "::ffff:203.0.113.7"} {
		err := call(same)
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
		if after := retryAfter(t, err); after > time.Minute {
			t.Errorf("retry after %v", after)
		}
	}
	for _, other := range []string{"203.0.113.8", "203.0.113.7, 198.51.100.1", "2001:db8::1", "garbage", ""} {
		if err := call(other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
	s.Clock.Advance(time.Second) // 60 a minute: one more
	if err := call("203.0.113.7"); err != nil {
		t.Error(err)
	}
	wantRefused(t, call("203.0.113.7"), codes.ResourceExhausted, "RATE_LIMITED")
	// A customer's whole IPv6 network is one client.
	for i := range burst { // the call before is forgotten by now
		if err := call(fmt.Sprintf("2001:db8::%x", i+2)); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, call("2001:db8::ffff"), codes.ResourceExhausted, "RATE_LIMITED")
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	wantRefused(t, tryLogin(t.Context(), s, email, "wrong horse battery"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	found := false
	for line := range strings.Lines(string(s.Logs.Bytes())) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if entry["msg"] == "rpc" && entry["method"] == latchkeyv1.AuthService_Login_FullMethodName {
			found = entry["code"] == "Unauthenticated" && entry["reason"] == "INVALID_CREDENTIALS" && entry["address"] == "127.0.0.1" && entry["took_ms"] != nil
		}
	}
	if !found {
		t.Errorf("no line for the login in:\n%s", s.Logs.Bytes())
	}
}

// An error before the interceptors has gRPC's own code.
func TestErrorsOfGRPCItself(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	err := s.Conn.Invoke(t.Context(), "/latchkey.v1.AuthService/NoSuchMethod", rawMessage(""), &latchkeyv1.SignUpResponse{}, rawCodec())
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
	err = tryLogin(t.Context(), s, email, strings.Repeat("p", 3<<20))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("3 MiB: %v", err)
	}
}

func TestStatusOfErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err        error
		code       string
		unforeseen bool
	}{
		"canceled":         {fmt.Errorf("x: %w", context.Canceled), "Canceled", false},
		"deadline":         {fmt.Errorf("x: %w", context.DeadlineExceeded), "Unavailable", false},
		"from gRPC":        {status.Error(codes.Unimplemented, "x"), "Unimplemented", false},
		"anything else":    {errors.New("secret detail"), "Internal", true},
		"canceled by pgx":  {fmt.Errorf("%w: %w", errors.New("timeout"), context.Canceled), "Canceled", false},
		"wrapped deadline": {fmt.Errorf("hash: %w", context.DeadlineExceeded), "Unavailable", false},
	} {
		if code, unforeseen := server.StatusOf(test.err); code != test.code || unforeseen != test.unforeseen {
			t.Errorf("%s: %s, %v", name, code, unforeseen)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	for _, seed := range []string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "", "00-",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		id, ok := server.ParseTraceparent(header)
		if !ok {
			if id != "" {
				t.Error("refused and answered")
			}
			return
		}
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" || !strings.HasPrefix(header[3:], id) {
			t.Errorf("%q gave %q", header, id)
		}
	})
}

// TestEveryCallHasADeadline checks that every call has one, whatever its client asked for.
func TestEveryCallHasADeadline(t *testing.T) {
	t.Parallel()
	patient, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	hasty, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, test := range map[string]struct {
		ctx    context.Context //nolint:containedctx // what the test is about
		atMost time.Duration
	}{
		"none":    {t.Context(), 15 * time.Second},
		"an hour": {patient, 15 * time.Second},
		"ten":     {hasty, 10 * time.Second},
	} {
		start := time.Now()
		_, err := server.DeadlineUnary(test.ctx, func(ctx context.Context, _ any) (any, error) {
			deadline, ok := ctx.Deadline()
			if left := deadline.Sub(start); !ok || left > test.atMost+time.Second {
				t.Errorf("%s: %v left, %v", name, left, ok)
			}
			return nil, nil //nolint:nilnil // the answer is not looked at
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
