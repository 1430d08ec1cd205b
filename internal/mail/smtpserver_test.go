package mail_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// received is one message that the server has accepted.
type received struct {
	from, to string
	data     string
	tls      bool
	login    string // the data of AUTH, decoded
}

// smtpServer is a small mail server on loopback. It knows the part of RFC 5321 that our client uses, and remembers
// every line and whether it was encrypted.
type smtpServer struct {
	addr  string
	roots *x509.CertPool

	tls        *tls.Config
	implicit   bool   // TLS from the first byte
	starttls   bool   // offer STARTTLS
	auth       bool   // offer AUTH PLAIN
	mechanisms string // of AUTH
	utf8       bool   // of AUTH
	pem        []byte // its self-signed certificate

	// reply may answer a command itself. "" means the usual answer. The verb "." is the end of the content.
	reply func(verb, line string) string

	mu       sync.Mutex
	messages []received
	plain    []string // command lines that came unencrypted
	conns    int
}

// startSMTP runs a server for the host names mail.example.com and 127.0.0.1.
func startSMTP(t *testing.T, setup func(*smtpServer)) *smtpServer {
	t.Helper()
	s := &smtpServer{starttls: true, mechanisms: "PLAIN LOGIN"}
	s.tls, s.roots = certificate(t)
	s.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.tls.Certificates[0].Certificate[0]})
	if setup != nil {
		setup(s)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.implicit {
		listener = tls.NewListener(listener, s.tls)
	}
	s.addr = listener.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return s
}

func (s *smtpServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	s.mu.Lock()
	s.conns++
	s.mu.Unlock()
	in := bufio.NewReader(conn)
	say := func(line string) { _, _ = fmt.Fprintf(conn, "%s\r\n", line) }
	encrypted := s.implicit
	var m received
	if greeting := s.custom("", ""); greeting != "" {
		say(greeting)
		return
	}
	say("220 mail.example.com ESMTP")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if !encrypted {
			s.mu.Lock()
			s.plain = append(s.plain, line)
			s.mu.Unlock()
		}
		verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0])
		if custom := s.custom(verb, line); custom != "" {
			say(custom)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-mail.example.com")
			say("250-ENHANCEDSTATUSCODES")
			if s.starttls && !encrypted {
				say("250-STARTTLS")
			}
			if s.auth {
				say("250-AUTH " + s.mechanisms)
			}
			if s.utf8 {
				say("250-SMTPUTF8")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			secure := tls.Server(conn, s.tls)
			conn, in, encrypted = secure, bufio.NewReader(secure), true
		case "AUTH":
			login, _ := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
			m.login = string(login)
			say("235 2.7.0 welcome")
		case "MAIL":
			m.from, m.tls = line, encrypted
			say("250 2.1.0 ok")
		case "RCPT":
			m.to = strings.TrimSuffix(strings.TrimPrefix(line, "RCPT TO:<"), ">")
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go on")
			m.data = content(in)
			if custom := s.custom(".", m.data); custom != "" {
				say(custom)
				continue
			}
			s.mu.Lock()
			s.messages = append(s.messages, m)
			s.mu.Unlock()
			say("250 2.0.0 queued")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 5.5.2 unknown")
		}
	}
}

func (s *smtpServer) custom(verb, line string) string {
	if s.reply == nil {
		return ""
	}
	return s.reply(verb, line)
}

// content reads up to the final dot and removes dot stuffing.
func content(in *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

func (s *smtpServer) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

func (s *smtpServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *smtpServer) plaintext() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.plain, "\n")
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mail.example.com"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"mail.example.com"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS12,
	}, roots
}
