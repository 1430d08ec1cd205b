//go:build world

package world

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	// proxyHost is the name that the samples serve.
	proxyHost = "auth.example.com"
	// clientAddress is the address of the client: the proxy itself has 127.0.0.1.
	clientAddress = "127.0.0.9"
	// longStream is longer than the longest silence or call that a sample allows (60 s).
	longStream = 75 * time.Second
	// longSilence is ten heartbeats, on a machine that is busy with other work.
	longSilence = 10 * time.Second
)

// proxied is a proxy of docs/proxies with a service behind it.
type proxied struct {
	service *service
	pkg     string // Debian's package
	version string
	addr    string // where the proxy listens
	roots   *x509.CertPool
	// unwilling means that the proxy must not trust the service.
	unwilling bool
	how       string // recorded before each case
}

// sample returns a file of docs/proxies with this run's addresses and certificate. Nothing else of it is changed.
func sample(t *testing.T, name string, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "proxies", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(string(text), changes[i]) {
			t.Fatalf("%s has no %q", name, changes[i])
		}
	}
	return strings.NewReplacer(changes...).Replace(string(text))
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificateOf writes NAME.crt, NAME.key and NAME.pem, which has both, for a host.
func certificateOf(t *testing.T, dir, name, host string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	writeFile(t, dir, name+".crt", chain)
	writeFile(t, dir, name+".key", secret)
	writeFile(t, dir, name+".pem", chain+secret)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(chain))
	return roots
}

// runProxy runs a proxy until the test ends, and waits until it answers.
func (p *proxied) runProxy(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var log tail
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			_ = err // nginx and HAProxy report how they were stopped
		case <-time.After(startTime):
			_ = cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("%s:\n%s", p.pkg, log.text())
		}
	})
	testenv.Eventually(t, startTime, p.pkg+" answers for the service", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended (%v):\n%s", p.pkg, err, log.text())
		default:
		}
		code, _, err := p.page("/healthz")
		if p.unwilling && err == nil && code == http.StatusOK {
			t.Fatalf("%s trusts a service with another certificate", p.pkg)
		}
		return err == nil && (code == http.StatusOK || p.unwilling && code >= http.StatusInternalServerError)
	})
}

// dialer connects to the proxy from clientAddress, whatever host is requested.
func (p *proxied) dialer(ctx context.Context, _ string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientAddress)}}
	return d.DialContext(ctx, "tcp", p.addr)
}

func (p *proxied) tls() *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: proxyHost, MinVersion: tls.VersionTLS12}
}

func (p *proxied) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+proxyHost+":443",
		grpc.WithContextDialer(p.dialer), grpc.WithTransportCredentials(credentials.NewTLS(p.tls())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// page requests a page as a browser does.
func (p *proxied) page(path string) (int, string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: p.tls(), ForceAttemptHTTP2: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return p.dialer(ctx, addr) },
	}}
	resp, err := client.Get("https://" + proxyHost + path) //nolint:noctx // the client has its time
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// withKey returns ctx with a key that dev has made.
func (p *proxied) withKey(ctx context.Context, t *testing.T, file string) context.Context {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(p.service.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(key)))
}

// newProxied starts the service that the samples expect, also with these settings, and returns the changes for a
// sample.
func newProxied(t *testing.T, pkg, dir string, settings ...string) (p *proxied, changes []string) {
	t.Helper()
	p = &proxied{pkg: pkg, version: debian(t, pkg)[0], addr: "127.0.0.1:" + freePort(t)}
	p.service = dev(t, append(settings, "LATCHKEY_TRUSTED_PROXIES=127.0.0.1")...)
	p.roots = certificateOf(t, dir, "proxy", proxyHost)
	return p, []string{"127.0.0.1:50051", p.service.grpc, "127.0.0.1:8080", p.service.http, "/etc/latchkey/", dir + "/"}
}

// proxySample is a file of docs/proxies, and the way to run it.
type proxySample struct {
	pkg, file string
	// overTLS are the changes that docs/proxies.md names for a Latchkey that has a certificate.
	overTLS []string
	run     func(t *testing.T, p *proxied, dir, text string)
}

func proxySamples() []proxySample {
	const caddyTLS = ` {
			transport http {
				versions %s
				tls_trusted_ca_certs /etc/latchkey/ca.crt
				tls_server_name latchkey.internal
			}
		}`
	return []proxySample{
		{"nginx", "nginx.conf", []string{
			"grpc_pass grpc://", "grpc_pass grpcs://",
			"proxy_pass http://", "proxy_pass https://",
			"    # A message has", `    grpc_ssl_verify on;
    grpc_ssl_trusted_certificate /etc/latchkey/ca.crt;
    grpc_ssl_name latchkey.internal;
    grpc_ssl_server_name on;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate /etc/latchkey/ca.crt;
    proxy_ssl_name latchkey.internal;
    proxy_ssl_server_name on;
    # A message has`,
		}, runNginx},
		{"haproxy", "haproxy.cfg", []string{
			"proto h2 check port 8080 check-proto h1", "ssl verify required ca-file /etc/latchkey/ca.crt verifyhost latchkey.internal alpn h2 check port 8080 check-ssl check-alpn http/1.1",
			"127.0.0.1:8080 check", "127.0.0.1:8080 ssl verify required ca-file /etc/latchkey/ca.crt verifyhost latchkey.internal check",
		}, runHAProxy},
		{"caddy", "Caddyfile", []string{
			"h2c://127.0.0.1:50051", "https://127.0.0.1:50051" + fmt.Sprintf(caddyTLS, "2"),
			"reverse_proxy 127.0.0.1:8080", "reverse_proxy https://127.0.0.1:8080" + fmt.Sprintf(caddyTLS, "1.1"),
		}, runCaddy},
	}
}

func runNginx(t *testing.T, p *proxied, dir, text string) {
	t.Helper()
	site := writeFile(t, dir, "latchkey.conf", strings.Replace(text, "listen 443 ", "listen "+p.addr+" ", 1))
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	main := writeFile(t, dir, "nginx.conf", fmt.Sprintf("%sdaemon off;\nworker_processes 1;\nerror_log stderr;\npid %s/nginx.pid;\n"+
		"events { worker_connections 1024; }\nhttp {\naccess_log off;\n%sinclude %s;\n}\n", user, dir, temporary.String(), site))
	p.runProxy(t, dir, "/usr/sbin/nginx", "-p", dir, "-c", main)
}

func runHAProxy(t *testing.T, p *proxied, dir, text string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(p.service.http)
	text = strings.NewReplacer("bind :443 ", "bind "+p.addr+" ", "check port 8080", "check port "+port).Replace(text)
	p.runProxy(t, dir, "/usr/sbin/haproxy", "-db", "-f", writeFile(t, dir, "haproxy.cfg", text))
}

func runCaddy(t *testing.T, p *proxied, dir, text string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(p.addr)
	site := writeFile(t, dir, "site", strings.Replace(text, proxyHost+" {", "https://"+proxyHost+":"+port+" {\n\tbind 127.0.0.1", 1))
	main := writeFile(t, dir, "Caddyfile", "{\n\tadmin off\n\tauto_https disable_redirects\n}\nimport "+site+"\n")
	p.runProxy(t, dir, "/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", main)
}

// TestProxies runs the samples of docs/proxies and uses the service through them.
func TestProxies(t *testing.T) {
	t.Parallel()
	for _, s := range proxySamples() {
		t.Run(s.pkg, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, changes := newProxied(t, s.pkg, dir)
			s.run(t, p, dir, sample(t, s.file, changes...))
			p.live(t)
		})
	}
}

// TestProxiesOverTLS makes the changes that docs/proxies.md names for a Latchkey with its own certificate. The proxies
// verify it: with another's certificate they do not answer.
func TestProxiesOverTLS(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(string(guide)), " ")
	for _, s := range proxySamples() {
		t.Run(s.pkg, func(t *testing.T) {
			t.Parallel()
			for i, text := range s.overTLS {
				text = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), " # A message has")
				if i%2 == 1 && !strings.Contains(plain, text) {
					t.Errorf("docs/proxies.md does not say %q", text)
				}
			}
			dir := t.TempDir()
			certificateOf(t, dir, "ca", "latchkey.internal") // it signs itself
			p, changes := newProxied(t, s.pkg, dir,
				"LATCHKEY_TLS_CERT_FILE="+filepath.Join(dir, "ca.crt"), "LATCHKEY_TLS_KEY_FILE="+filepath.Join(dir, "ca.key"))
			text := sample(t, s.file, s.overTLS...)
			s.run(t, p, dir, strings.NewReplacer(changes...).Replace(text))
			p.how = "TLS to the service, verified: "
			conn := p.dial(t)
			p.account(t, latchkeyv1.NewAuthServiceClient(conn), conn)
			p.pages(t)
			// Another certificate for the same name.
			strangers := t.TempDir()
			q := &proxied{service: p.service, pkg: s.pkg, addr: "127.0.0.1:" + freePort(t), roots: certificateOf(t, strangers, "proxy", proxyHost)}
			certificateOf(t, strangers, "ca", "latchkey.internal")
			changes[5] = strangers + "/"
			q.unwilling = true
			s.run(t, q, strangers, strings.NewReplacer(changes...).Replace(text))
			_, err := latchkeyv1.NewAuthServiceClient(q.dial(t)).ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("a call to a service with another certificate: %v", err)
			}
		})
	}
}

// live does everything that clients do, and records it. Long streams run beside the rest.
func (p *proxied) live(t *testing.T) {
	t.Helper()
	conn := p.dial(t)
	auth := latchkeyv1.NewAuthServiceClient(conn)
	seen := p.watch(t, latchkeyv1.NewRevocationServiceClient(conn))
	imports := make(chan error, 1)
	slow := latchkeyv1.NewAdminServiceClient(p.dial(t))
	ctx := p.withKey(t.Context(), t, "admin-key")
	go func() {
		_, err := importAccounts(ctx, slow, "slow", 6, 10, longStream/6)
		imports <- err
	}()

	session, token := p.account(t, auth, conn)
	p.manyCalls(t, auth, token)
	size, err := importAccounts(ctx, latchkeyv1.NewAdminServiceClient(conn), "big", 20, 1000, 0)
	if err != nil {
		t.Errorf("an import of 20 messages of 1,000 accounts: %v", err)
	}
	p.record(t, fmt.Sprintf("import of 20,000 accounts, %.1f MiB", float64(size)/(1<<20)))
	p.refusals(t, auth)
	p.pages(t)

	if err := <-imports; err != nil {
		t.Errorf("an import that takes %s: %v", longStream, err)
	}
	p.record(t, fmt.Sprintf("import that takes %s, with pauses of %s", longStream, longStream/6))
	if _, err := auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: session}); err != nil {
		t.Fatal(err)
	}
	select {
	case lasted := <-seen:
		if lasted < longStream {
			t.Errorf("the revocation was seen after %s: the watch was not tried for long", lasted)
		}
		p.record(t, "one watch of revocations, "+longStream.String()+" and 2,000 calls old, has the logout")
	case <-time.After(30 * time.Second):
		t.Error("the watch never has the logout")
	}
}

func (p *proxied) record(t *testing.T, name string) {
	t.Helper()
	if !t.Failed() {
		record(p.pkg+" (Debian)", p.version, p.how+name, "ok")
	}
}

// account signs up, logs in, refreshes, and returns a refresh token and an access token.
func (p *proxied) account(t *testing.T, auth latchkeyv1.AuthServiceClient, conn *grpc.ClientConn) (refresh, access string) {
	t.Helper()
	// If a client sends the header itself, it is ignored.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "203.0.113.7")
	const email, password = "ada@example.com", "correct horse battery"
	if _, err := auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "L"}); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	p.record(t, "SignUp, Login")
	req := &latchkeyv1.RefreshTokenRequest{RefreshToken: login.GetTokens().GetRefreshToken(), RequestId: uuid.NewString()}
	tokens, err := auth.RefreshToken(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := auth.RefreshToken(ctx, req)
	if err != nil || again.GetTokens().GetRefreshToken() != tokens.GetTokens().GetRefreshToken() {
		t.Errorf("the refresh again, with its request id: %v", err)
	}
	p.record(t, "RefreshToken, again with its request id")
	access = tokens.GetTokens().GetAccessToken()
	sessions, err := latchkeyv1.NewSessionServiceClient(conn).ListSessions(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+access), &latchkeyv1.ListSessionsRequest{})
	if err != nil || len(sessions.GetSessions()) != 1 || sessions.GetSessions()[0].GetAddress() != clientAddress {
		t.Errorf("the session's address is not %s: %v, %v", clientAddress, sessions, err)
	}
	p.record(t, "the client's address, also when it sends another in x-forwarded-for")
	return tokens.GetTokens().GetRefreshToken(), access
}

// manyCalls makes more than the 1,000 calls after which nginx by default closes a connection.
func (p *proxied) manyCalls(t *testing.T, auth latchkeyv1.AuthServiceClient, token string) {
	t.Helper()
	var refused atomic.Int64
	var calls errgroup.Group
	for range 20 {
		calls.Go(func() error {
			for range 100 {
				resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: token})
				if err != nil {
					return err
				}
				if !resp.GetValid() {
					refused.Add(1)
				}
			}
			return nil
		})
	}
	if err := calls.Wait(); err != nil || refused.Load() > 0 {
		t.Errorf("2,000 validations, 20 at once: %v, %d not valid", err, refused.Load())
	}
	p.record(t, "2,000 ValidateToken on one connection, 20 at once")
}

// watch opens one stream. The channel gets its age when the first logout came, and nothing if the stream ended before.
func (p *proxied) watch(t *testing.T, client latchkeyv1.RevocationServiceClient) <-chan time.Duration {
	t.Helper()
	began := time.Now()
	stream, err := client.WatchRevocations(p.withKey(t.Context(), t, "service-key"), &latchkeyv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, seen := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		last := time.Now()
		for i := 0; ; i++ {
			resp, err := stream.Recv()
			// A heartbeat comes each second. A proxy that holds answers back delivers many at once.
			if silent := time.Since(last); err == nil && silent > longSilence {
				t.Errorf("the watch was silent for %s", silent)
			}
			last = time.Now()
			if err != nil {
				if t.Context().Err() == nil {
					t.Errorf("the watch ended after %s: %v", time.Since(began), err)
				}
				return
			}
			if i == 0 {
				close(first)
			}
			if len(resp.GetRevocations()) > 0 {
				seen <- time.Since(began)
				return
			}
		}
	}()
	select {
	case <-first:
	case <-time.After(30 * time.Second):
		t.Fatal("the watch says nothing")
	}
	return seen
}

// importAccounts sends messages of so many accounts, with a pause before each, and returns their size in bytes.
func importAccounts(ctx context.Context, admin latchkeyv1.AdminServiceClient, name string, messages, accounts int, pause time.Duration) (size int, err error) {
	stream, err := admin.ImportUsers(ctx)
	if err != nil {
		return size, err
	}
	for m := range messages {
		time.Sleep(pause) // as from a slow file
		req := &latchkeyv1.ImportUsersRequest{}
		for a := range accounts {
			req.Users = append(req.Users, &latchkeyv1.ImportedUser{
				Email: fmt.Sprintf("%s-%d-%d@example.com", name, m, a), FirstName: strings.Repeat("n", 40), LastName: "Imported",
				PasswordHash: "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
			})
		}
		size += proto.Size(req)
		if err := stream.Send(req); err != nil {
			_, err = stream.CloseAndRecv()
			return size, fmt.Errorf("message %d: %w", m, err)
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return size, err
	}
	if resp.GetCreatedCount() != int64(messages*accounts) {
		return size, fmt.Errorf("%d accounts were made: %v", resp.GetCreatedCount(), resp.GetRefusals())
	}
	return size, nil
}

// refusals checks that refusals arrive as the service made them: code, reason and trailers.
func (p *proxied) refusals(t *testing.T, auth latchkeyv1.AuthServiceClient) {
	t.Helper()
	var trailer metadata.MD
	_, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: "wrong"}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unauthenticated || len(status.Convert(err).Details()) == 0 || len(trailer.Get("trace-id")) != 1 {
		t.Errorf("a wrong password: %v, %v", err, trailer)
	}
	_, err = auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: strings.Repeat("x", 17<<10)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message over 16 KiB: %v", err)
	}
	p.record(t, "refusals with code, details and trace id")
}

// pages checks that verifiers get the keys, and strangers no readiness.
func (p *proxied) pages(t *testing.T) {
	t.Helper()
	if code, body, err := p.page("/.well-known/jwks.json"); err != nil || code != http.StatusOK || !strings.Contains(body, `"keys"`) {
		t.Errorf("the keys: %d, %v, %s", code, err, body)
	}
	if code, _, err := p.page("/readyz"); err != nil || code != http.StatusNotFound {
		t.Errorf("readyz: %d, %v", code, err)
	}
	p.record(t, "keys over HTTPS, readyz not shown")
}

// TestEnvoySample checks the sample with Envoy's own schema: Debian and npm have no Envoy to run.
func TestEnvoySample(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs(filepath.Join("..", "docs", "proxies", "envoy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("envoycheck/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`go-control-plane/envoy (v\S+)`).FindSubmatch(module)
	if version == nil {
		t.Fatal("envoycheck/go.mod names no go-control-plane/envoy")
	}
	commandIn(t, installTime, "envoycheck", nil, "go", "run", ".", path)
	wrong := writeFile(t, t.TempDir(), "wrong.yaml", sample(t, "envoy.yaml", "port_value: 443}", "port_value: 443000}"))
	cmd := exec.CommandContext(t.Context(), "go", "run", ".", wrong)
	cmd.Dir = "envoycheck"
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "PortValue") {
		t.Errorf("a port of 443000 passes: %s", out)
	}
	record("Envoy (schema: go-control-plane)", string(version[1]), "the sample keeps to the schema; Envoy itself is not run", "ok")
}

// TestKubernetesProbes makes the requests of the sample's probes, at the ports that it names.
func TestKubernetesProbes(t *testing.T) {
	t.Parallel()
	s := dev(t)
	ports := map[string]string{"http": s.http}
	probes := regexp.MustCompile(`httpGet: \{path: (\S+), port: (\w+)\}`).FindAllStringSubmatch(sample(t, "kubernetes.yaml"), -1)
	if len(probes) != 3 {
		t.Fatalf("%d probes", len(probes))
	}
	for _, probe := range probes {
		resp, err := http.Get("http://" + ports[probe[2]] + probe[1]) //nolint:noctx // this machine's own page
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s", probe[1], resp.Status)
		}
	}
	record("Kubernetes", "not run", "the paths and ports of the sample's probes answer", "ok")
}
