package main

import (
	"context"
	"crypto/x509"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// TestAdminTLS: only a service that has the private key of the certificate gets the key.
func TestAdminTLS(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*x509.Certificate){
		"of the loopback address": func(*x509.Certificate) {},
		"of a public host":        func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"auth.example.com"} },
		"of a wildcard":           func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"*.example.com"} },
		"of another address":      func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := keyed(t)
			certFile, keyFile := testcert.Write(t, t.TempDir(), "first", edit)
			settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = certFile, keyFile
			o := newOperator(start(t, pairs(settings), "serve").addrs(t)["grpc"])
			o.settings["LATCHKEY_TLS_CERT_FILE"], o.settings["LATCHKEY_TLS_KEY_FILE"] = certFile, keyFile
			o.do(t, "user", "list")
			other, _ := testcert.Write(t, t.TempDir(), "second", edit)
			o.settings["LATCHKEY_TLS_CERT_FILE"] = other
			o.refused(t, exitFailed, []string{"user", "list"}, "UNAVAILABLE: ", "certificate")
			delete(o.settings, "LATCHKEY_TLS_CERT_FILE")
			delete(o.settings, "LATCHKEY_TLS_KEY_FILE")
			o.refused(t, exitFailed, []string{"user", "list", "--server-name", "auth.example.com"}, "UNAVAILABLE: ", "certificate")
			o.refused(t, exitFailed, []string{"user", "list", "--ca", certFile, "--server-name", "evil.example.net"}, "UNAVAILABLE: ", "certificate")
			o.refused(t, exitFailed, []string{"user", "list", "--ca", other}, "UNAVAILABLE: ", "certificate")
			switch name {
			case "of the loopback address":
				o.do(t, "user", "list", "--ca", certFile)
			case "of another address":
				o.do(t, "user", "list", "--ca", certFile, "--server-name", "192.0.2.1")
			default:
				o.do(t, "user", "list", "--ca", certFile, "--server-name", "auth.example.com")
			}
		})
	}
}

// stranger is some gRPC server that keeps the credentials that it gets.
type stranger struct {
	addr string
	mu   sync.Mutex
	got  []string
}

func newStranger(t *testing.T, options ...grpc.ServerOption) *stranger {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.WithoutCancel(t.Context()), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{addr: l.Addr().String()}
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, md.Get("authorization")...)
		return status.Error(codes.Unimplemented, "a stranger")
	}))...)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s
}

func (s *stranger) keys() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.got, " ")
}

// TestKeyIsNotSentToStrangers: a program that took the service's port gets nothing, over TLS with a certificate of its
// own or in plaintext instead of TLS.
func TestKeyIsNotSentToStrangers(t *testing.T) {
	t.Parallel()
	ours, oursKey := testcert.Write(t, t.TempDir(), "ours")
	theirs, theirsKey := testcert.Write(t, t.TempDir(), "theirs")
	pair, err := credentials.NewServerTLSFromFile(theirs, theirsKey)
	if err != nil {
		t.Fatal(err)
	}
	overTLS, plain := newStranger(t, grpc.Creds(pair)), newStranger(t)
	for _, s := range []*stranger{overTLS, plain} {
		o := newOperator(s.addr)
		o.refusedBy(t, "UNAVAILABLE: ", "--server-name", "auth.example.com")
		o.refusedBy(t, "UNAVAILABLE: ", "--ca", ours)
		o.settings["LATCHKEY_TLS_CERT_FILE"], o.settings["LATCHKEY_TLS_KEY_FILE"] = ours, oursKey
		o.refusedBy(t, "UNAVAILABLE: ")
		if got := s.keys(); got != "" {
			t.Errorf("a stranger got %q", got)
		}
	}
	// If the operator trusts a stranger, it gets the key, so the checks above would notice one.
	newOperator(plain.addr).refusedBy(t, "UNIMPLEMENTED: a stranger", "--plaintext")
	newOperator(overTLS.addr).refusedBy(t, "UNIMPLEMENTED: a stranger", "--ca", theirs)
	if plain.keys() != "Bearer "+adminKey || overTLS.keys() != "Bearer "+adminKey {
		t.Errorf("got %q and %q", plain.keys(), overTLS.keys())
	}
}

// refusedBy expects that list is refused.
func (o *operator) refusedBy(t *testing.T, text string, flags ...string) {
	t.Helper()
	o.refused(t, exitFailed, append([]string{"user", "list"}, flags...), text)
}

// TestAdminTransport: the protection of the key depends on the address of the service.
func TestAdminTransport(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testcert.Write(t, t.TempDir(), "ours")
	pinned := &config.Config{TLSCertFile: certFile, TLSKeyFile: keyFile, AdminKey: adminKey}
	plain := &config.Config{AdminKey: adminKey}
	for name, test := range map[string]struct {
		target     adminTarget
		cfg        *config.Config
		addr       string
		tls, roots bool
		server     string
	}{
		"loopback":                          {adminTarget{}, plain, "127.0.0.1:1", false, false, ""},
		"loopback, IPv6":                    {adminTarget{}, plain, "[::1]:1", false, false, ""},
		"localhost":                         {adminTarget{}, plain, "localhost:1", false, false, ""},
		"loopback with a certificate":       {adminTarget{}, pinned, "127.0.0.1:1", true, true, ""},
		"localhost with a certificate":      {adminTarget{}, pinned, "localhost:1", true, true, "127.0.0.1"},
		"loopback, and a name":              {adminTarget{serverName: "x"}, plain, "127.0.0.1:1", true, false, "x"},
		"another host":                      {adminTarget{}, plain, "192.0.2.1:1", true, false, ""},
		"another host by name":              {adminTarget{}, plain, "localhost.example.com:1", true, false, ""},
		"another host, certificate here":    {adminTarget{}, pinned, "192.0.2.1:1", true, false, ""},
		"another host, its authority":       {adminTarget{ca: certFile}, plain, "192.0.2.1:1", true, true, ""},
		"another host, and --plaintext":     {adminTarget{plaintext: true}, pinned, "192.0.2.1:1", false, false, ""},
		"an address that looks like local ": {adminTarget{}, plain, "127.0.0.1.example.com:1", true, false, ""},
	} {
		verify, err := test.target.tls(test.cfg, test.addr)
		if err != nil || (verify != nil) != test.tls {
			t.Errorf("%s: TLS %v, %v", name, verify != nil, err)
			continue
		}
		if verify != nil && (verify.InsecureSkipVerify || (verify.RootCAs != nil) != test.roots || verify.ServerName != test.server) {
			t.Errorf("%s: %+v", name, verify)
		}
	}
	for name, content := range map[string]string{"empty": "", "garbage": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		o := newOperator("127.0.0.1:1")
		o.refused(t, exitUsage, []string{"user", "list", "--ca", file}, "--ca "+file+" cannot be used")
		settings := maps.Clone(o.settings)
		settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = file, keyFile
		(&operator{settings}).refused(t, exitUsage, []string{"user", "list"}, "LATCHKEY_TLS_CERT_FILE cannot be used")
		t.Log(name)
	}
	nameless, namelessKey := testcert.Write(t, t.TempDir(), "nameless", func(c *x509.Certificate) { c.IPAddresses = nil })
	o := newOperator("127.0.0.1:1")
	o.settings["LATCHKEY_TLS_CERT_FILE"], o.settings["LATCHKEY_TLS_KEY_FILE"] = nameless, namelessKey
	o.refused(t, exitUsage, []string{"user", "list"}, "names no host")
}
