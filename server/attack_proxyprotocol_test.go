package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	theProxy = "127.0.0.2" // trusted
	theCDN   = "10.9.9.9"  // trusted too, and in front of the proxy
)

func withProxyProtocol(o testenv.Options) testenv.Options {
	o.ProxyProtocol = true
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(theProxy + "/32"), netip.MustParsePrefix(theCDN + "/32")}
	return o
}

// announcement returns a PROXY header of a version for a client.
func announcement(t *testing.T, version byte, client string) string {
	t.Helper()
	from := netip.MustParseAddrPort(client)
	to := "192.0.2.80:443"
	if from.Addr().Is6() {
		to = "[2001:db8::80]:443"
	}
	var text bytes.Buffer
	_, err := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to))).WriteTo(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// begin connects from an address and writes a text before anything else.
func begin(ctx context.Context, addr, from, text string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialAfter returns a gRPC client whose connections begin with a text.
func dialAfter(t *testing.T, s *testenv.Server, from, text string, creds credentials.TransportCredentials) latchkeyv1.AuthServiceClient {
	t.Helper()
	conn := testenv.Dial(t, s.Addr, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return begin(ctx, addr, from, text)
	}))
	return latchkeyv1.NewAuthServiceClient(conn)
}

// lastAddress returns the client of the last call in the log.
func lastAddress(t *testing.T, s *testenv.Server) string {
	t.Helper()
	address := "no call"
	for line := range bytes.Lines(s.Logs.Bytes()) {
		var entry struct{ Msg, Address string }
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Msg == "rpc" {
			address = entry.Address
		}
	}
	return address
}

// TestProxyProtocolNamesTheClient checks from which peers a header is believed, and its effect on x-forwarded-for.
func TestProxyProtocolNamesTheClient(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{}))
	calls := func() int { return bytes.Count(s.Logs.Bytes(), []byte(`"msg":"rpc"`)) }
	local := "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for name, test := range map[string]struct {
		from, text, forwarded string
		want                  string // "": the connection is closed
	}{
		"version 1":                              {theProxy, announcement(t, 1, "203.0.113.7:4000"), "", "203.0.113.7"},
		"version 1, IPv6":                        {theProxy, announcement(t, 1, "[2001:db8::7]:4000"), "", "2001:db8::7"},
		"version 2":                              {theProxy, announcement(t, 2, "203.0.113.7:4000"), "", "203.0.113.7"},
		"version 2, IPv6":                        {theProxy, announcement(t, 2, "[2001:db8::7]:4000"), "", "2001:db8::7"},
		"IPv4 in IPv6":                           {theProxy, "PROXY TCP6 ::ffff:203.0.113.7 ::1 4000 443\r\n", "", "203.0.113.7"},
		"the client writes x-forwarded-for":      {theProxy, announcement(t, 2, "203.0.113.7:4000"), "198.51.100.1", "203.0.113.7"},
		"the client is a trusted proxy":          {theProxy, announcement(t, 2, theCDN+":4000"), "198.51.100.1", "198.51.100.1"},
		"LOCAL":                                  {theProxy, local, "", theProxy},
		"LOCAL, with x-forwarded-for":            {theProxy, local, "198.51.100.1", theProxy},
		"UNKNOWN, with x-forwarded-for":          {theProxy, "PROXY UNKNOWN\r\n", "198.51.100.1", theProxy},
		"UNKNOWN with addresses":                 {theProxy, "PROXY UNKNOWN 198.51.100.1 192.0.2.80 1 2\r\n", "", theProxy},
		"no header":                              {theProxy, "", "", theProxy},
		"no header, x-forwarded-for":             {theProxy, "", "198.51.100.1", "198.51.100.1"},
		"no proxy":                               {"127.0.0.3", "", "198.51.100.1", "127.0.0.3"},
		"a header of no proxy":                   {"127.0.0.3", announcement(t, 2, "203.0.113.7:4000"), "", ""},
		"a header of no proxy, version 1":        {"127.0.0.3", announcement(t, 1, "203.0.113.7:4000"), "", ""},
		"a second header, the client's":          {theProxy, announcement(t, 2, "203.0.113.7:4000") + announcement(t, 2, "198.51.100.1:1"), "", ""},
		"a second header of version 1":           {theProxy, announcement(t, 2, "203.0.113.7:4000") + announcement(t, 1, "198.51.100.1:1"), "", ""},
		"a second header after LOCAL":            {theProxy, local + announcement(t, 1, "198.51.100.1:1"), "", ""},
		"a line without an end":                  {theProxy, "PROXY TCP4 " + strings.Repeat("1", 200), "", ""},
		"an address that is none":                {theProxy, "PROXY TCP4 203.0.113.256 192.0.2.80 1 2\r\n", "", ""},
		"a name for an address":                  {theProxy, "PROXY TCP4 localhost 192.0.2.80 1 2\r\n", "", ""},
		"64 KiB of version 2":                    {theProxy, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + strings.Repeat("x", 1<<16-1), "", ""},
		"an address of a UNIX socket":            {theProxy, "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("x", 216), "198.51.100.1", theProxy},
		"version 2 with what it says of TLS":     {theProxy, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0f\xcb\x00\x71\x07\x7f\x00\x00\x01\x0f\xa0\x01\xbb\x04\x00\x00", "", "203.0.113.7"},
		"version 2 whose length is that of none": {theProxy, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x01x", "", ""},
	} {
		before := calls()
		client := dialAfter(t, s, test.from, test.text, insecure.NewCredentials())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if test.forwarded != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", test.forwarded)
		}
		_, err := client.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
		cancel()
		switch {
		case test.want == "":
			if status.Code(err) != codes.Unavailable || calls() != before {
				t.Errorf("%s: %v, a call of %s", name, err, lastAddress(t, s))
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case lastAddress(t, s) != test.want:
			t.Errorf("%s: the client is %s, not %s", name, lastAddress(t, s), test.want)
		}
	}
}

// Without the setting a header closes the connection, from whatever peer.
func TestProxyProtocolIsOff(t *testing.T) {
	t.Parallel()
	o := withProxyProtocol(testenv.Options{})
	o.ProxyProtocol = false
	s := testenv.Start(t, o)
	for _, version := range []byte{1, 2} {
		client := dialAfter(t, s, theProxy, announcement(t, version, "203.0.113.7:4000"), insecure.NewCredentials())
		_, err := client.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// The log names an untrusted proxy, and a proxy that sends something else.
func TestProxyProtocolIsTold(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{}))
	for from, text := range map[string]string{
		"127.0.0.3": announcement(t, 1, "203.0.113.7:4000"), theProxy: "PROXY TCP9 secret\r\n",
	} {
		conn, err := begin(t.Context(), s.Addr, from, text)
		if err != nil {
			t.Fatal(err)
		}
		wantClosed(t, conn)
	}
	logs := string(s.Logs.Bytes())
	for _, want := range []string{`"setting":"LATCHKEY_TRUSTED_PROXIES"`, "a PROXY header cannot be read"} {
		if strings.Count(logs, want) != 1 {
			t.Errorf("the log does not say once %s:\n%s", want, logs)
		}
	}
	if strings.Contains(logs, "secret") {
		t.Error("the log has what was sent")
	}
}

func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection was not closed: %v", err)
	}
}

// Connections and calls count for the client. Connections whose header does not come have few places of their own, and
// only for a short time.
func TestProxyProtocolLimits(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{AddressLimit: true, MaxConnections: 40, MaxConnectionsPerAddress: 10}))
	preface := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	open := func(client string, n int) (answered int) {
		t.Helper()
		for range n {
			conn, err := begin(t.Context(), s.Addr, theProxy, announcement(t, 2, client)+preface)
			if err != nil {
				continue
			}
			t.Cleanup(func() { _ = conn.Close() })
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				answered++
			}
		}
		return answered
	}
	// Forty silent connections hold six places, besides the forty.
	var silent []net.Conn
	for range 40 {
		conn, err := begin(t.Context(), s.Addr, theProxy, "")
		if err == nil { // otherwise it was closed at once
			silent = append(silent, conn)
		}
	}
	testenv.Eventually(t, patience, "most of those that are silent are closed", func() bool {
		return strings.Contains(metricsText(t, s), `latchkey_connections{listener="grpc"} 6`) &&
			strings.Contains(metricsText(t, s), `latchkey_connections_closed_total{listener="grpc",reason="all"} 34`)
	})
	if !strings.Contains(string(s.Logs.Bytes()), "waiting for a PROXY header") {
		t.Error("the log does not say so")
	}
	// Direct callers are not affected, and the silent connections are closed in the end.
	if _, err := dialAfter(t, s, "127.0.0.3", "", insecure.NewCredentials()).ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"}); err != nil {
		t.Error(err)
	}
	for _, conn := range silent {
		wantClosed(t, conn)
	}
	if n := open("203.0.113.7:1", 20); n != 10 {
		t.Errorf("an address got %d connections", n)
	}
	if n := open("203.0.113.8:1", 10); n != 10 {
		t.Errorf("another one got %d", n)
	}
	// The calls that are used up are those of the client's address.
	f := &forgetful{s: s}
	by := func(client string) *forgetful {
		conn := *s
		conn.Auth = dialAfter(t, s, theProxy, announcement(t, 2, client), insecure.NewCredentials())
		return &forgetful{s: &conn, n: f.n}
	}
	one := by("203.0.113.9:1")
	if n := one.exhaust(t); n != forgotBurst(s) {
		t.Errorf("%d calls were answered", n)
	}
	f.n = one.n
	wantRefused(t, by("203.0.113.9:2").call(t.Context(), "x-forwarded-for", "198.51.100.9"), codes.ResourceExhausted, "RATE_LIMITED")
	if err := by("203.0.113.10:1").call(t.Context()); err != nil {
		t.Error(err)
	}
}

// The header comes first, in plaintext.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{TLS: selfSigned(t)}))
	creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	client := dialAfter(t, s, theProxy, announcement(t, 2, "203.0.113.7:4000"), creds)
	if _, err := client.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := lastAddress(t, s); got != "203.0.113.7" {
		t.Errorf("the client is %s", got)
	}
	// A handshake that fails is logged with the client's address too.
	conn, err := begin(t.Context(), s.Addr, theProxy, announcement(t, 1, "203.0.113.8:4000")+"GET / HTTP/1.1\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn)
	testenv.Eventually(t, patience, "the log has it", func() bool {
		return strings.Contains(string(s.Logs.Bytes()), `"msg":"TLS handshake failed","listener":"grpc","peer":"203.0.113.8:4000"`)
	})
}

// The HTTP pages accept headers too, and answer probes without one.
func TestProxyProtocolOverHTTP(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, withProxyProtocol(testenv.Options{MaxConnections: 40, MaxConnectionsPerAddress: 1}))
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 10)
	pages := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.RemoteAddr
		s.Server.Handler().ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- pages.Serve(s.Server.Bound(l, "pages that say who asks")) }()
	for _, test := range []struct{ from, text, want string }{
		{theProxy, announcement(t, 1, "203.0.113.7:4000"), "203.0.113.7:4000"},
		{theProxy, announcement(t, 2, "[2001:db8::7]:4000"), "[2001:db8::7]:4000"},
		{theProxy, "", theProxy},
		{"127.0.0.3", "", "127.0.0.3"},
		{"127.0.0.3", announcement(t, 2, "203.0.113.7:4000"), ""},
		{theProxy, announcement(t, 2, "203.0.113.7:4000") + announcement(t, 2, "203.0.113.8:4000"), ""},
	} {
		conn, err := begin(t.Context(), l.Addr().String(), test.from, test.text+"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		answer, err := io.ReadAll(conn)
		_ = conn.Close()
		ok := strings.HasPrefix(string(answer), "HTTP/1.1 200 ")
		if ok != (test.want != "") {
			t.Errorf("%+v: %q, %v", test, answer, err)
		}
		if ok {
			if got := <-seen; !strings.HasPrefix(got, test.want) {
				t.Errorf("%+v: the client is %s", test, got)
			}
		}
	}
	_ = pages.Close()
	if err := <-served; err == nil || err.Error() != http.ErrServerClosed.Error() {
		t.Error(fmt.Errorf("serve: %w", err))
	}
}
