package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// theProtocols are those of the HTTP listener, by HTTP/1.1 and by HTTP/2.
func theProtocols() map[string][]connecthttp.Option {
	return map[string][]connecthttp.Option{
		"Connect": nil, "Connect with JSON": {connecthttp.WithProtoJSON()},
		"gRPC-Web": {connecthttp.WithGRPCWeb()}, "gRPC-Web with JSON": {connecthttp.WithGRPCWeb(), connecthttp.WithProtoJSON()},
		"gRPC": {connecthttp.WithGRPC()},
	}
}

// overHTTP makes Connect's client look like grpc-go's, so that the same calls and checks serve both.
type overHTTP struct{ client *connect.Client }

func dialHTTP(t *testing.T, url string, version int, options ...connecthttp.Option) overHTTP {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(version == 1)
	transport.Protocols.SetUnencryptedHTTP2(version == 2)
	t.Cleanup(transport.CloseIdleConnections)
	return overHTTP{connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, url, options...))}
}

func (o overHTTP) headers(ctx context.Context) (context.Context, *connect.CallInfo) {
	ctx, info := connect.NewClientContext(ctx)
	sent, _ := metadata.FromOutgoingContext(ctx)
	for name, values := range sent {
		info.RequestHeader().SetValues(name, values)
	}
	return ctx, info
}

// Invoke implements grpc.ClientConnInterface.
func (o overHTTP) Invoke(ctx context.Context, method string, req, resp any, options ...grpc.CallOption) error {
	ctx, info := o.headers(ctx)
	err := o.client.CallUnary(ctx, connect.Spec{Procedure: method, StreamType: connect.StreamTypeUnary}, req, resp)
	for _, option := range options {
		if trailer, ok := option.(grpc.TrailerCallOption); ok {
			*trailer.TrailerAddr = metadata.MD{}
			for name, values := range info.ResponseTrailer().All() {
				trailer.TrailerAddr.Append(name, values...)
			}
		}
	}
	return asStatus(err)
}

// NewStream implements grpc.ClientConnInterface.
func (o overHTTP) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, _ = o.headers(ctx)
	return &httpStream{ctx: ctx, client: o.client, method: method}, nil
}

type httpStream struct {
	grpc.ClientStream
	ctx    context.Context //nolint:containedctx // as grpc.ClientStream has it
	client *connect.Client
	method string
	stream connect.ClientStream
}

func (h *httpStream) SendMsg(m any) (err error) {
	h.stream, err = h.client.CallServerStream(h.ctx, connect.Spec{Procedure: h.method, StreamType: connect.StreamTypeServer}, m)
	return asStatus(err)
}
func (h *httpStream) CloseSend() error { return nil }
func (h *httpStream) RecvMsg(m any) error {
	err := h.stream.Receive(m)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return asStatus(err)
}

func asStatus(err error) error {
	var failed *connect.Error
	if !errors.As(err, &failed) {
		return err
	}
	st := &spb.Status{Code: int32(failed.Code()), Message: failed.Message()}
	for _, detail := range failed.Details() {
		st.Details = append(st.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + detail.Type, Value: detail.Value})
	}
	return status.ErrorProto(st)
}

// Every protocol has the same answers, refusals, trailers and streams as gRPC.
func TestProtocolsOverHTTP(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	for name, options := range theProtocols() {
		for version := 1; version <= 2; version++ {
			if name == "gRPC" && version == 1 {
				continue // it needs HTTP/2
			}
			t.Run(fmt.Sprint(name, " over HTTP/", version), func(t *testing.T) {
				t.Parallel()
				conn := dialHTTP(t, s.HTTP, version, options...)
				over := *s
				over.Auth, over.AccountService = latchkeyv1.NewAuthServiceClient(conn), latchkeyv1.NewAccountServiceClient(conn)
				address := strings.ToLower(strings.NewReplacer(" ", "-", "/", "-").Replace(t.Name())) + "@example.com"
				signUp(t, &over, address)
				tokens := logIn(t, &over, address)
				own := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+tokens.GetAccessToken())
				answer, err := over.AccountService.GetAccount(own, &latchkeyv1.GetAccountRequest{})
				if err != nil || answer.GetUser().GetEmail() != address {
					t.Errorf("%v, %v", answer, err)
				}
				var trailer metadata.MD
				_, err = over.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: "not the password"}, grpc.Trailer(&trailer))
				wantRefused(t, err, codes.Unauthenticated, "INVALID_CREDENTIALS")
				if id := traceIDOf(trailer); len(id) != 32 {
					t.Errorf("the trailer has the trace id %q", id)
				}
				_, err = over.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address})
				wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "password")

				watching, end := context.WithCancel(testenv.WithKey(t.Context(), testenv.ServiceKey))
				defer end()
				stream, err := latchkeyv1.NewRevocationServiceClient(conn).WatchRevocations(watching, &latchkeyv1.WatchRevocationsRequest{})
				if err != nil {
					t.Fatal(err)
				}
				catchUp(t, stream)
				logOut(t, &over, tokens.GetRefreshToken())
				for {
					rows, _ := catchUp(t, stream)
					if slices.ContainsFunc(rows, func(r *latchkeyv1.Revocation) bool { return r.GetSessionId() == tokens.GetSessionId() }) {
						break
					}
				}
				checked, err := over.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
				if err != nil || checked.GetValid() {
					t.Errorf("after the logout: %v, %v", checked, err)
				}
			})
		}
	}
}

func traceIDOf(trailer metadata.MD) string { return strings.Join(trailer.Get("trace-id"), "") }

// reply is an answer whose body was read.
type reply struct {
	StatusCode int
	Header     http.Header
}

// post sends a request as curl does.
func post(t *testing.T, url, contentType, body string, headers ...string) (reply, string) {
	t.Helper()
	return send(t, http.MethodPost, url, contentType, body, headers...)
}

func send(t *testing.T, method, url, contentType, body string, headers ...string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header}, string(text)
}

// Plain JSON needs no header of Connect, and an error says what a person and a program need.
func TestPlainJSON(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	login := s.HTTP + "/latchkey.v1.AuthService/Login"
	signUp(t, s, email)
	resp, text := post(t, login, "application/json", `{"email":"`+email+`","password":"`+password+`"}`)
	var tokens struct {
		Tokens struct{ AccessToken, RefreshToken, SessionID string }
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil || resp.StatusCode != http.StatusOK || tokens.Tokens.AccessToken == "" {
		t.Fatalf("%d %s %v", resp.StatusCode, text, err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" || len(resp.Header.Get("Trailer-Trace-Id")) != 32 {
		t.Errorf("headers: %v", resp.Header)
	}
	var refused struct {
		Code, Message string
		Details       []struct {
			Type  string
			Debug map[string]any
		}
	}
	resp, text = post(t, login, "application/json; charset=utf-8", `{"email":"`+email+`","password":"wrong"}`)
	if err := json.Unmarshal([]byte(text), &refused); err != nil || resp.StatusCode != http.StatusUnauthorized || refused.Code != "unauthenticated" ||
		len(refused.Details) == 0 || refused.Details[0].Type != "google.rpc.ErrorInfo" || refused.Details[0].Debug["reason"] != "INVALID_CREDENTIALS" {
		t.Errorf("%d %s %v", resp.StatusCode, text, err)
	}
	for _, test := range []struct {
		contentType, body string
		want              int
	}{
		{"application/json", `{"email":`, http.StatusBadRequest},
		{"application/json", `{"email":7}`, http.StatusBadRequest},
		{"application/json", `[]`, http.StatusBadRequest},
		{"application/json", ``, http.StatusBadRequest},
		{"application/proto", "\xff\xff", http.StatusBadRequest},
		{"application/json", `{"email":"` + strings.Repeat("a", 20<<10) + `"}`, http.StatusTooManyRequests},
		// The types that a form or a script of any page may send without being asked (Fetch, "CORS-safelisted
		// request-header").
		{"text/plain", `{"email":"a@example.com","password":"x"}`, http.StatusUnsupportedMediaType},
		{"application/x-www-form-urlencoded", "email=a", http.StatusUnsupportedMediaType},
		{"multipart/form-data; boundary=x", "--x--", http.StatusUnsupportedMediaType},
	} {
		if resp, text := post(t, login, test.contentType, test.body); resp.StatusCode != test.want {
			t.Errorf("%s %.40s: %d %s", test.contentType, test.body, resp.StatusCode, text)
		}
	}
}

// Every unary method is there, and none by GET: tokens would be in addresses, histories and logs.
func TestEveryMethodOverHTTP(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	served := 0
	for service, methods := range everyMethod() {
		for _, method := range methods {
			served++
			url := s.HTTP + "/" + service + "/" + method
			resp, text := post(t, url, "application/grpc-web+proto", "\x00\x00\x00\x00\x00")
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Grpc-Status") == "12" || strings.Contains(text, "grpc-status: 12") {
				t.Errorf("%s: %d %v %q", url, resp.StatusCode, resp.Header, text)
			}
			for _, query := range []string{"", "?connect=v1&encoding=json&message=%7B%7D"} {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url+query, http.NoBody)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusMethodNotAllowed {
					t.Errorf("GET %s%s: %d", url, query, resp.StatusCode)
				}
			}
		}
	}
	if served < 40 {
		t.Errorf("only %d methods", served)
	}
}

// everyMethod returns the methods of latchkey.v1 that have one request and one answer, by service.
func everyMethod() map[string][]string {
	all := map[string][]string{}
	protoregistry.GlobalFiles.RangeFilesByPackage("latchkey.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				if method := service.Methods().Get(j); !method.IsStreamingClient() && !method.IsStreamingServer() {
					all[string(service.FullName())] = append(all[string(service.FullName())], string(method.Name()))
				}
			}
		}
		return true
	})
	return all
}

// A request of a few bytes must not become one of many.
func TestAttackInflatedRequest(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write(append([]byte(`{"email":"`), bytes.Repeat([]byte("a"), 8<<20)...)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	resp, text := post(t, s.HTTP+"/latchkey.v1.AuthService/Login", "application/json", packed.String(), "Content-Encoding", "gzip")
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d bytes that inflate to 8 MiB: %d %s", packed.Len(), resp.StatusCode, text)
	}
	resp, _ = post(t, s.HTTP+"/latchkey.v1.AuthService/Login", "application/json", `{}`, "Accept-Encoding", "gzip")
	if resp.Header.Get("Content-Encoding") != "" {
		t.Error("an answer is compressed: its length would tell about the token beside what others choose")
	}
}

// Only scripts of listed origins may read answers, and no origin that looks like one of them.
func TestAttackForeignOrigins(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{"https://app.example.com", "capacitor://localhost"}})
	url := s.HTTP + "/latchkey.v1.AuthService/Login"
	ask := func(t *testing.T, origin string) (preflight, call string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		answer, _ := post(t, url, "application/json", `{}`, "Origin", origin)
		if answer.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Error("cookies are allowed")
		}
		return resp.Header.Get("Access-Control-Allow-Origin"), answer.Header.Get("Access-Control-Allow-Origin")
	}
	for _, listed := range []string{"https://app.example.com", "capacitor://localhost"} {
		if preflight, call := ask(t, listed); preflight != listed || call != listed {
			t.Errorf("%s: %q and %q", listed, preflight, call)
		}
	}
	for _, foreign := range []string{
		"https://app.example.com.evil.example", "https://evil.example/https://app.example.com", "https://xapp.example.com", "https://app-example.com",
		"http://app.example.com", "https://app.example.com:8443", "https://app.example.com:443", "https://app.example.com.", "https://app.example.com/",
		"https://sub.app.example.com", "https://user@app.example.com", "null", "file://", "*", "", "http://localhost:3000", "capacitor://localhost:1",
		"https://app.example.com, https://evil.example", "https://app.example.com\x00.evil.example", "https://аpp.example.com",
	} {
		if strings.ContainsRune(foreign, 0) {
			continue // net/http's client does not send it
		}
		if preflight, call := ask(t, foreign); preflight != "" || call != "" {
			t.Errorf("%q: %q and %q", foreign, preflight, call)
		}
	}
}

// The caller's address is found as on the gRPC listener, and counts in the same limits.
func TestCallersOverHTTP(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParsePrefix("127.0.0.1/32")
	for name, test := range map[string]struct {
		trusted []netip.Prefix
		want    string
	}{
		"a proxy that is not trusted": {nil, "127.0.0.1"},
		"a trusted proxy":             {[]netip.Prefix{loopback}, "203.0.113.9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{TrustedProxies: test.trusted})
			signUp(t, s, email)
			conn := dialHTTP(t, s.HTTP, 1)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "198.51.100.1, 203.0.113.9")
			login, err := latchkeyv1.NewAuthServiceClient(conn).Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
			if err != nil {
				t.Fatal(err)
			}
			own := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+login.GetTokens().GetAccessToken())
			list, err := s.SessionService.ListSessions(own, &latchkeyv1.ListSessionsRequest{})
			if err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetAddress() != test.want {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// The limit of an address is one limit for both listeners.
func TestAddressLimitOverBothListeners(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true})
	web := latchkeyv1.NewAuthServiceClient(dialHTTP(t, s.HTTP, 2, connecthttp.WithGRPCWeb()))
	clients := []latchkeyv1.AuthServiceClient{s.Auth, web}
	refused := map[int]bool{}
	for n := range 400 {
		_, err := clients[n%2].ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: fmt.Sprintf("a%d@example.com", n)})
		if status.Code(err) == codes.ResourceExhausted {
			refused[n%2] = true
		}
		if len(refused) == 2 {
			return
		}
	}
	t.Errorf("refused on the listeners %v only", slices.Collect(maps.Keys(refused)))
}

// A stream ends when its client's time is over, and when the replica stops, with codes that say so.
func TestStreamsOverHTTPEnd(t *testing.T) {
	t.Parallel()
	for name, options := range theProtocols() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{WallClock: true})
			client := latchkeyv1.NewRevocationServiceClient(dialHTTP(t, s.HTTP, 2, options...))
			ctx := testenv.WithKey(t.Context(), testenv.ServiceKey)
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if code := status.Code(endOfWatch(t, short, client)); code != codes.DeadlineExceeded {
				t.Errorf("past its deadline: %s", code)
			}
			open, err := client.WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			catchUp(t, open)
			stopping, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s.Server.Shutdown(stopping, 0, nil)
			wantPlannedEnd(t, open)
		})
	}
}

func endOfWatch(t *testing.T, ctx context.Context, client latchkeyv1.RevocationServiceClient) error { //nolint:revive // the context is the case's
	t.Helper()
	stream, err := client.WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
	for err == nil {
		_, err = stream.Recv()
	}
	return err
}

// The app of the older backend calls it in gRPC-Web, through Envoy so far.
func TestOlderContractOverGRPCWeb(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	signUp(t, s, email)
	older := authpb.NewAuthServiceClient(dialHTTP(t, s.HTTP, 1, connecthttp.WithGRPCWeb()))
	login, err := older.Login(t.Context(), &authpb.LoginRequest{Email: email, Password: password})
	if err != nil || login.GetAccessToken() == "" {
		t.Fatalf("%v, %v", login, err)
	}
	_, err = older.Login(t.Context(), &authpb.LoginRequest{Email: email, Password: "wrong"})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong password: %v", err)
	}
}

// The client that a PROXY header names is the caller. If it names none, x-forwarded-for is a stranger's.
func TestProxyProtocolNamesCallersOverHTTP(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{}))
	for _, test := range []struct{ announced, want string }{
		{announcement(t, 2, "203.0.113.7:4000"), "203.0.113.7"},
		{"PROXY UNKNOWN\r\n", theProxy},
	} {
		body := `{"email":"nobody@example.com","password":"wrong"}`
		conn, err := begin(t.Context(), strings.TrimPrefix(s.HTTP, "http://"), theProxy, test.announced+
			"POST /latchkey.v1.AuthService/Login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"+
			"X-Forwarded-For: 198.51.100.1\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		answer, err := io.ReadAll(conn)
		_ = conn.Close()
		if got := lastAddress(t, s); !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || got != test.want {
			t.Errorf("%q: the caller is %s, want %s; %.40q, %v", test.announced, got, test.want, answer, err)
		}
	}
}

// A body that never ends holds a connection for ten seconds, no longer.
func TestAttackSlowBody(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	conn, err := begin(t.Context(), strings.TrimPrefix(s.HTTP, "http://"), "127.0.0.1",
		"POST /latchkey.v1.AuthService/Login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server has closed it
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(patience))
	answer, err := io.ReadAll(conn)
	if took := time.Since(began); err != nil || took < 5*time.Second || strings.Contains(string(answer), " 200 ") {
		t.Errorf("after %s: %.80q, %v", took, answer, err)
	}
}
