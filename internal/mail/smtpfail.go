package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"syscall"
)

// fail describes a failure in our own words, and in the part of the server's text that may be shown.
func (s *SMTP) fail(ctx context.Context, op string, err error, q quoted) *SendError {
	e := &SendError{Op: op}
	if ctxErr := ctx.Err(); ctxErr != nil {
		e.cause = ctxErr
		e.Reason = "interrupted"
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			e.Reason = s.silence(op)
		}
		return e
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		e.Code = reply.Code
		e.Enhanced = enhancedCode(reply.Code, reply.Msg)
		e.Text = words(reply.Msg, q, s.from.Address)
		e.Permanent = isFinal(op, e.Code, e.Enhanced)
		return e
	}
	e.Reason = s.server.addr() + ": " + s.reason(op, err)
	return e
}

// isFinal returns whether the server will refuse the same message again. 5yz to the sender depends on settings, which
// an operator can change while the job waits. So does 5.7 to anything: relaying that is not allowed, a sender that SPF
// does not list, a bad reputation. The owner can empty a full mailbox (5.2.2, and 552 of servers without enhanced
// codes).
func isFinal(op string, code int, enhanced string) bool {
	if code < 500 || op != "recipient" && op != "content" {
		return false
	}
	switch {
	case strings.HasPrefix(enhanced, "5.7."), enhanced == "5.2.2":
		return false
	case enhanced == "" && (code == 530 || code == 552): // 530: log in first (RFC 4954, 6)
		return false
	}
	return true
}

// silence explains why no answer may have come within the timeout.
func (s *SMTP) silence(op string) string {
	said := s.server.addr() + ": no answer within " + s.timeout.String()
	switch {
	case op == "connect" && !s.server.ImplicitTLS:
		return said + ": is a firewall on the way? Many networks let nobody out to port 25; 587 and 465 are for clients"
	case op == "connect":
		return said + ": is a firewall on the way, or does the port not speak TLS from the first byte? For STARTTLS write smtp://"
	case op == "greeting" && s.server.ImplicitTLS:
		return said + ": what speaks TLS there is no mail server"
	case op == "greeting":
		return said + ": a port that wants TLS from the first byte, as 465 does, waits like that: write smtps:// for it"
	}
	return said
}

// reason explains the failures that operators see often.
func (s *SMTP) reason(op string, err error) string {
	var (
		dnsErr    *net.DNSError
		certErr   *tls.CertificateVerificationError
		recordErr tls.RecordHeaderError
		netErr    net.Error
		protocol  textproto.ProtocolError
	)
	closed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case errors.Is(err, errNoSTARTTLS), errors.Is(err, errPlaintext), errors.Is(err, errNoXOAUTH2), errors.Is(err, errNoAuth):
		return err.Error()
	case errors.As(err, &dnsErr):
		return "the host name does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &certErr):
		return s.distrust(certErr)
	case errors.As(err, &recordErr):
		return "the server does not speak TLS from the first byte on this port: write smtp:// for STARTTLS, usually on port 587"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timed out"
	case op == "greeting" && !s.server.ImplicitTLS && (closed || errors.As(err, &protocol)):
		return "what answers there is no mail server, or wants TLS from the first byte, as port 465 does: write smtps:// for that"
	case errors.As(err, &protocol):
		return "what answers there is no mail server"
	case closed:
		return "the server closed the connection"
	}
	return "the exchange broke off"
}

// distrust says why the server's certificate is not accepted.
func (s *SMTP) distrust(err *tls.CertificateVerificationError) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("the certificate is not for %s but for %s", s.server.Host, namesIn(name.Certificate))
	case errors.As(err, &unknown):
		return "the certificate is signed by nobody known here: for an authority of your own set LATCHKEY_SMTP_CA_FILE"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired, is not valid yet, or the clock of this machine is wrong"
	}
	return "the certificate is not valid for this host or not signed by a known authority"
}

// namesIn lists a few of the names in a certificate. The server that answered chose them, so they are not trusted.
func namesIn(cert *x509.Certificate) string {
	const shown = 3
	var names []string
	if cert != nil {
		names = cert.DNSNames
		for _, ip := range cert.IPAddresses {
			names = append(names, ip.String())
		}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !validHost(strings.TrimPrefix(name, "*.")) })
	switch {
	case len(names) == 0:
		return "no host"
	case len(names) > shown:
		return strings.Join(names[:shown], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}

// RootCAs reads the PEM certificates of authorities. The certificate of a mail server must then be signed by one of
// them, and not by one of the system's. Errors say what is wrong with the file.
func RootCAs(file string) (*x509.CertPool, error) {
	content, err := os.ReadFile(file) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return pool, nil
}
