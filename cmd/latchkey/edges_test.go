package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// TestListenersAtTheirEdges: a failed handshake on the HTTP listener is in the log, a probe that sends nothing is not,
// and the operations listener does not accept all connections that somebody opens.
func TestListenersAtTheirEdges(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = testcert.Write(t, t.TempDir(), "edges")
	p := start(t, pairs(settings), "serve")
	addrs := p.addrs(t)
	dial := func(addr string) net.Conn {
		t.Helper()
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	_ = dial(addrs["http"]).Close()
	conn := dial(addrs["http"])
	if _, err := io.WriteString(conn, "GET /?secret HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn)
	told := func() string { return p.text(&p.stderr) }
	testenv.Eventually(t, patience, "the log has the handshake", func() bool { return strings.Contains(told(), "TLS handshake failed") })
	text := told()
	if strings.Count(text, "TLS handshake failed") != 1 || strings.Contains(text, "secret ") ||
		!strings.Contains(text, `"listener":"http","peer":"`+conn.LocalAddr().String()+`","error":"client sent an HTTP request to an HTTPS server"`) {
		t.Errorf("the log:\n%s", text)
	}

	open := 0
	for range 70 {
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", addrs["ops"])
		if err != nil {
			continue // closed before it was seen to be open
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			open++
		}
	}
	if open != 64 {
		t.Errorf("an address got %d connections", open)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}).DialContext}}
	if metrics := get(t, client, "http://"+addrs["ops"]+"/metrics"); !strings.Contains(metrics, `latchkey_connections_closed_total{listener="ops",reason="address"} 6`) {
		t.Error("another address does not get in, or the metrics do not have them")
	}
}
