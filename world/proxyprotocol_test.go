//go:build world

package world

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// TestProxyProtocol runs docs/proxies/haproxy-tcp.cfg, with headers of both versions: the client is the one that called
// HAProxy, and cannot claim another address.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for version, sends := range map[string]string{"version 2": "send-proxy-v2", "version 1": "send-proxy"} {
		t.Run(sends, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			roots := certificateOf(t, dir, "ca", proxyHost)
			p := &proxied{pkg: "haproxy", version: debian(t, "haproxy")[0], addr: "127.0.0.1:" + freePort(t), roots: roots, how: "PROXY protocol " + version + ": "}
			p.service = dev(t, "LATCHKEY_TRUSTED_PROXIES=127.0.0.1", "LATCHKEY_PROXY_PROTOCOL=true",
				"LATCHKEY_TLS_CERT_FILE="+filepath.Join(dir, "ca.crt"), "LATCHKEY_TLS_KEY_FILE="+filepath.Join(dir, "ca.key"))
			_, port, err := net.SplitHostPort(p.service.http)
			check(t, err)
			grpcAddr := "127.0.0.1:" + freePort(t)
			text := sample(t, "haproxy-tcp.cfg",
				"127.0.0.1:50051", p.service.grpc, "127.0.0.1:8080", p.service.http, "/etc/latchkey/", dir+"/", "check port 8080", "check port "+port,
				"bind :443", "bind "+grpcAddr, "bind :8443", "bind "+p.addr, "send-proxy-v2", sends)
			p.runProxy(t, dir, "/usr/sbin/haproxy", "-db", "-f", writeFile(t, dir, "haproxy.cfg", text))
			if code, body, err := p.page("/.well-known/jwks.json"); err != nil || code != http.StatusOK || !strings.Contains(body, `"keys"`) {
				t.Errorf("the keys: %d, %v, %s", code, err, body)
			}
			p.record(t, "keys over HTTPS")
			p.addr = grpcAddr
			conn := p.dial(t)
			p.account(t, latchkeyv1.NewAuthServiceClient(conn), conn)
			p.strangers(t)
		})
	}
}

// strangers write headers themselves. Through HAProxy such a header is the second one; sent to the service directly, it
// is the first one, but from an untrusted address.
func (p *proxied) strangers(t *testing.T) {
	t.Helper()
	for _, one := range []struct{ name, to, header string }{
		{"a client's own header behind HAProxy's closes the connection", p.addr, "PROXY TCP4 203.0.113.7 192.0.2.1 1 443\r\n"},
		{"a header of somebody who is not trusted closes the connection", p.service.grpc, "PROXY TCP4 203.0.113.7 192.0.2.1 1 443\r\n"},
	} {
		dialer := func(ctx context.Context, _ string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientAddress)}}
			conn, err := d.DialContext(ctx, "tcp", one.to)
			if err != nil {
				return nil, err
			}
			_, err = io.WriteString(conn, one.header)
			return conn, err
		}
		conn, err := grpc.NewClient("passthrough:///"+proxyHost+":443", grpc.WithContextDialer(dialer), grpc.WithTransportCredentials(credentials.NewTLS(p.tls())))
		check(t, err)
		_, err = latchkeyv1.NewAuthServiceClient(conn).ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
		_ = conn.Close()
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", one.name, err)
		}
		p.record(t, one.name)
	}
	// A probe of the proxy itself, without a header.
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: p.tls(), DisableKeepAlives: true}}
	resp, err := client.Get("https://" + p.service.http + "/readyz") //nolint:noctx // the client has its time
	check(t, err)
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	check(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "ok") {
		t.Errorf("/readyz without a header: %d %s", resp.StatusCode, body)
	}
	p.record(t, "a trusted address without a header is answered")
}
