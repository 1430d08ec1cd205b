package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	limitOfMessages = 16 << 10
	// shortArrival is how long a message may take to arrive in most of these tests.
	shortArrival = time.Second
	// goneAfter is when a call that shortArrival ends must be gone, on a busy machine.
	goneAfter = 8 * time.Second
)

// begun is the start of a call that is never completed.
type begun struct {
	method string
	data   []byte
	frame  int
	header []string
}

// For every method and every missing part, a call whose message does not arrive is ended, and the connection stays
// open.
func TestAttack08HalfSentCallsEnd(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival, Legacy: testenv.Existing(t)})
	whole := testenv.Message(16, 16)
	for name, half := range map[string]begun{
		"headers alone":               {method: latchkeyv1.AuthService_SignUp_FullMethodName},
		"a byte":                      {method: latchkeyv1.AuthService_Login_FullMethodName, data: []byte{0}, frame: 1},
		"a prefix":                    {method: latchkeyv1.AuthService_ValidateToken_FullMethodName, data: testenv.Message(100, 0), frame: 5},
		"a split prefix":              {method: latchkeyv1.AuthService_ValidateToken_FullMethodName, data: testenv.Message(100, 50), frame: 2},
		"five bytes short":            {method: latchkeyv1.AuthService_ResetPassword_FullMethodName, data: testenv.Message(limitOfMessages, limitOfMessages-5), frame: 16384},
		"whole, but not closed":       {method: latchkeyv1.AuthService_ValidateToken_FullMethodName, data: whole, frame: 100},
		"frames of a byte":            {method: latchkeyv1.AuthService_Logout_FullMethodName, data: testenv.Message(500, 400), frame: 1},
		"the older contract":          {method: authpb.AuthService_ValidateToken_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"a session's":                 {method: latchkeyv1.SessionService_ListSessions_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"an operator's, without key":  {method: latchkeyv1.AdminService_GetUser_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"an operator's, with key":     {method: latchkeyv1.AdminService_GetUser_FullMethodName, data: testenv.Message(100, 50), frame: 100, header: bearerOf(testenv.AdminKey)},
		"an import without key":       {method: latchkeyv1.AdminService_ImportUsers_FullMethodName, data: testenv.Message(1<<20, 60000), frame: 16384},
		"revocations without key":     {method: latchkeyv1.RevocationService_WatchRevocations_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"revocations with a key":      {method: latchkeyv1.RevocationService_WatchRevocations_FullMethodName, data: testenv.Message(100, 50), frame: 100, header: bearerOf(testenv.ServiceKey)},
		"health":                      {method: healthpb.Health_Check_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"health, watched":             {method: healthpb.Health_Watch_FullMethodName, data: testenv.Message(100, 50), frame: 100},
		"a method that is not served": {method: "/latchkey.v1.AuthService/Nothing", data: testenv.Message(100, 50), frame: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testenv.DialRaw(t, s.Addr)
			for range 20 {
				stream, err := p.Begin(half.method, half.header...)
				if err != nil {
					t.Fatal(err)
				}
				_ = p.Send(stream, half.data, max(half.frame, 1), false, goneAfter) // it may have ended already
			}
			testenv.Eventually(t, goneAfter, "the calls are gone", func() bool { return p.Open() == 0 })
			if p.Closed() {
				t.Fatal("the whole connection was closed")
			}
			good, err := p.Begin(healthpb.Health_Check_FullMethodName)
			if err == nil {
				err = p.Send(good, testenv.Message(0, 0), 5, true, goneAfter)
			}
			if err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, goneAfter, "a good call is answered", func() bool { return p.Status(good) == "0" })
		})
	}
}

func bearerOf(key string) []string { return []string{"authorization", "Bearer " + key} }

// Bytes that come one at a time do not extend the time.
func TestAttack08TricklesEnd(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival})
	p := testenv.DialRaw(t, s.Addr)
	stream, err := p.Begin(latchkeyv1.AuthService_Login_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := 0; p.Open() > 0; i++ {
		if time.Since(began) > goneAfter {
			t.Fatal("the call is still there")
		}
		_ = p.Send(stream, testenv.Message(10000, 10000)[i:i+1], 1, false, time.Second)
		time.Sleep(50 * time.Millisecond)
	}
	if got := p.Status(stream); got != strconv.Itoa(int(codes.DeadlineExceeded)) {
		t.Errorf("status %q", got)
	}
}

// Only an operator's import accepts a message over 16 KiB. If the prefix says that a message is longer, it is refused
// before it arrives. If the prefix says less, the message is never complete.
func TestAttack08LargeMessages(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	for method, policy := range s.Server.Policies() {
		if strings.HasPrefix(method, "/grpc.reflection.") {
			continue
		}
		t.Run(method[1:], func(t *testing.T) {
			t.Parallel()
			call := func(size int) error {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				stream, err := s.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, rawCodec())
				if err != nil {
					t.Fatal(err)
				}
				// Field 1 in one piece. The method may not know it.
				content := strings.Repeat("x", size-4)
				message := string([]byte{0x0a, byte(len(content)&0x7f | 0x80), byte(len(content)>>7&0x7f | 0x80), byte(len(content) >> 14)}) + content
				if err := stream.SendMsg(rawMessage(message)); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				_ = stream.CloseSend()
				return stream.RecvMsg(&latchkeyv1.SignUpResponse{})
			}
			if err := call(limitOfMessages + 1); status.Code(err) != codes.ResourceExhausted && !refusedBefore(policy, err) {
				t.Errorf("a byte more than the limit: %v", err)
			}
			if err := call(limitOfMessages); status.Code(err) == codes.ResourceExhausted {
				t.Errorf("at the limit: %v", err)
			}
			p := testenv.DialRaw(t, s.Addr)
			lying, err := p.Begin(method)
			if err != nil {
				t.Fatal(err)
			}
			// The prefix comes in two frames, so neither frame alone shows the length.
			message := testenv.Message(1<<20, 100<<10)
			_ = p.Send(lying, message[:3], 3, false, patience)
			_ = p.Send(lying, message[3:], 16384, false, patience)
			testenv.Eventually(t, patience, "the call is refused", func() bool { return p.Open() == 0 })
		})
	}
}

// refusedBefore returns whether the call was refused for a missing credential, as streams are before their message is
// read.
func refusedBefore(policy *latchkeyv1.Policy, err error) bool {
	return policy.GetAuth() != latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC && status.Code(err) == codes.Unauthenticated
}

// An operator may send a megabyte at a time, slowly.
func TestAttack08LargeImport(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival})
	send := func(key string) error {
		ctx, cancel := context.WithTimeout(testenv.WithKey(t.Context(), key), patience)
		defer cancel()
		stream, err := s.Admin.ImportUsers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			req := &latchkeyv1.ImportUsersRequest{DryRun: true}
			for i := range 1000 {
				req.Users = append(req.Users, &latchkeyv1.ImportedUser{
					Email: fmt.Sprintf("user%d.%d@example.com", n, i), FirstName: strings.Repeat("n", 100), LastName: strings.Repeat("m", 800),
				})
			}
			if err := stream.Send(req); err != nil {
				break
			}
			time.Sleep(2 * shortArrival)
		}
		_, err = stream.CloseAndRecv()
		return err
	}
	if err := send(testenv.AdminKey); err != nil {
		t.Errorf("an operator's import: %v", err)
	}
	for _, key := range []string{"wrong", testenv.ServiceKey} {
		wantRefused(t, send(key), codes.Unauthenticated, "KEY_INVALID")
	}
}

// Calls that are meant to last are not cut off.
func TestAttack08HonestStreamsGoOn(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	revocations, err := latchkeyv1.NewRevocationServiceClient(s.Conn).WatchRevocations(testenv.WithKey(ctx, testenv.ServiceKey), &latchkeyv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	health, err := healthpb.NewHealthClient(s.Conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	reflection, err := grpc_reflection_v1.NewServerReflectionClient(s.Conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() {
		for {
			if _, err := revocations.Recv(); err != nil {
				ended <- fmt.Errorf("revocations: %w", err)
				return
			}
		}
	}()
	go func() {
		for {
			if _, err := health.Recv(); err != nil {
				ended <- fmt.Errorf("health: %w", err)
				return
			}
		}
	}()
	for range 4 {
		request := &grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
		if err := reflection.Send(request); err != nil {
			t.Fatal(err)
		}
		if _, err := reflection.Recv(); err != nil {
			t.Fatalf("reflection: %v", err)
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(shortArrival):
		}
	}
}

// 2,000 logins at once from one address.
func TestAttack08HonestBurst(t *testing.T) {
	t.Parallel()
	for _, connections := range []int{16, 200} {
		t.Run(strconv.Itoa(connections), func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{HashQueue: 4000, MaxConnections: 8192, MaxConnectionsPerAddress: 1024, WallClock: true})
			signUp(t, s, email)
			clients := make([]latchkeyv1.AuthServiceClient, connections)
			for i := range clients {
				clients[i] = latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.Addr))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var calls sync.WaitGroup
			var refused atomic.Int64
			for i := range 2000 {
				calls.Go(func() {
					_, err := clients[i%connections].ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: strings.Repeat("x", 900)})
					if err != nil && refused.Add(1) == 1 {
						t.Errorf("refused: %v", err)
					}
					_, err = clients[i%connections].Login(ctx, &latchkeyv1.LoginRequest{Email: fmt.Sprintf("u%d@example.com", i), Password: password})
					if code := status.Code(err); code != codes.Unauthenticated && refused.Add(1) == 1 {
						t.Errorf("refused: %v", err)
					}
				})
			}
			calls.Wait()
			if n := refused.Load(); n > 0 {
				t.Errorf("%d calls were refused", n)
			}
		})
	}
}

// A connection without a complete handshake, or that stops in the middle of a frame, is closed.
func TestAttack08UnfinishedConnections(t *testing.T) {
	t.Parallel()
	plain := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival})
	secure := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival, TLS: selfSigned(t)})
	for name, test := range map[string]struct {
		addr string
		send func(net.Conn) error
	}{
		"nothing":              {plain.Addr, func(net.Conn) error { return nil }},
		"half a preface":       {plain.Addr, write(http2.ClientPreface[:10])},
		"no settings":          {plain.Addr, write(http2.ClientPreface)},
		"half a frame":         {plain.Addr, write(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x40\x00\x00\x00\x00\x00\x00\x01x")},
		"half a header":        {plain.Addr, write(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00")},
		"a header list begun":  {plain.Addr, write(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83")},
		"TLS, nothing":         {secure.Addr, func(net.Conn) error { return nil }},
		"TLS, half a greeting": {secure.Addr, write("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dialer net.Dialer
			conn, err := dialer.DialContext(t.Context(), "tcp", test.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // the server has closed it
			if err := test.send(conn); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Error("the connection is still there")
			}
		})
	}
}

func write(text string) func(net.Conn) error {
	return func(c net.Conn) error {
		_, err := c.Write([]byte(text))
		return err
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// The guard sees the frames inside TLS.
func TestAttack08HalfSentOverTLS(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{ArrivalTime: shortArrival, TLS: selfSigned(t)})
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := testenv.NewRawPeer(t, conn)
	late, err := p.Begin(latchkeyv1.AuthService_SignUp_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Send(late, testenv.Message(100, 50), 100, false, patience)
	large, err := p.Begin(latchkeyv1.AuthService_SignUp_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Send(large, testenv.Message(1<<20, 50), 100, false, patience)
	testenv.Eventually(t, goneAfter, "the calls are gone", func() bool { return p.Open() == 0 })
	if got := p.Status(late); got != strconv.Itoa(int(codes.DeadlineExceeded)) {
		t.Errorf("late: status %q", got)
	}
	if got := p.Status(large); got != strconv.Itoa(int(codes.ResourceExhausted)) {
		t.Errorf("large: status %q", got)
	}
}

// One address gets its share of the connections, and all together have a limit. A trusted proxy has only the latter.
func TestAttack08Connections(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{
		MaxConnections: 40, MaxConnectionsPerAddress: 10, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")},
	})
	open := func(from string, n int) (conns []net.Conn) {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		for range n {
			conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr)
			if err != nil {
				continue
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := conn.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
				continue
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				conns = append(conns, conn)
			}
		}
		return conns
	}
	attacker := open("127.0.0.1", 20)
	if len(attacker) != 10 {
		t.Errorf("an address got %d connections", len(attacker))
	}
	if n := len(open("127.0.0.2", 25)); n != 25 {
		t.Errorf("a proxy got %d connections", n)
	}
	if n := len(open("127.0.0.3", 10)); n != 7 { // 5 are free, and an address with 10 gives up two to one with 5
		t.Errorf("with 5 left an address got %d connections", n)
	}
	if n := len(open("127.0.0.2", 5)); n != 0 {
		t.Errorf("with none left a proxy got %d connections", n)
	}
	metrics := metricsText(t, s)
	for _, want := range []string{
		`latchkey_connections{listener="grpc"} 40`,
		`latchkey_connections_closed_total{listener="grpc",reason="address"} 10`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	if n := strings.Count(string(s.Logs.Bytes()), "there are too many"); n != 1 {
		t.Errorf("the log has %d lines", n)
	}
	// A place that is free again can be taken by another address.
	for _, conn := range attacker {
		_ = conn.Close()
	}
	testenv.Eventually(t, patience, "there is room", func() bool { return len(open("127.0.0.4", 1)) == 1 })
}

func metricsText(t *testing.T, s *testenv.Server) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return recorder.Body.String()
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}
