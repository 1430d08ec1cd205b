package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// defaultTimeout bounds one delivery. It stays below the minute that a job has,
// so that a hanging server is reported as such.
const defaultTimeout = 30 * time.Second

// SMTPConfig configures [NewSMTP].
type SMTPConfig struct {
	// URL of the server, see [ParseSMTPURL].
	URL string
	// From is the sender, see [ParseFrom].
	From string
	// Timeout bounds one delivery from connecting to the server's last reply.
	// Default 30 s.
	Timeout time.Duration
	// RootCAs verifies the server's certificate. Nil means the system's roots.
	RootCAs *x509.CertPool
	// Dial opens the TCP connection. Nil means a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// SMTP delivers to a mail server, one connection per message: a service that
// sends a mail now and then has no use for an idle connection that the server
// closes. Safe for concurrent use.
type SMTP struct {
	server  SMTPServer
	from    *netmail.Address
	timeout time.Duration
	tls     *tls.Config
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewSMTP checks the settings; it does not connect. Errors wrap [ErrSMTPURL] or
// [ErrFrom].
func NewSMTP(cfg SMTPConfig) (*SMTP, error) {
	server, err := ParseSMTPURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	from, err := ParseFrom(cfg.From)
	if err != nil {
		return nil, err
	}
	s := &SMTP{
		server:  server,
		from:    from,
		timeout: cfg.Timeout,
		dial:    cfg.Dial,
		tls:     &tls.Config{ServerName: server.Host, RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
	}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	if s.dial == nil {
		s.dial = (&net.Dialer{}).DialContext
	}
	return s, nil
}

// Send delivers m. Every error is a [*SendError].
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := s.build(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	conn, err := s.connect(ctx)
	if err != nil {
		return s.fail(ctx, "connect", err)
	}
	// The SMTP library waits in reads and writes: closing under its feet is what
	// ends them when ctx does.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()

	client, op, err := s.open(conn)
	if err != nil {
		return s.fail(ctx, op, err)
	}
	return s.transfer(ctx, client, msg)
}

// build turns m into a MIME message. What it refuses would be refused again.
func (s *SMTP) build(m Message) (*gomail.Msg, error) {
	to, err := netmail.ParseAddress(m.To)
	// A display name would let whoever chose the address write into the header.
	if err != nil || hasControl(m.To) || (to.Address != m.To && to.String() != "<"+m.To+">") {
		return nil, &SendError{Op: "recipient", Reason: "the address is not valid", Permanent: true}
	}
	if m.Subject == "" || hasControl(m.Subject) {
		return nil, &SendError{Op: "message", Reason: "the subject is empty or holds control characters", Permanent: true}
	}
	if m.Text == "" || m.HTML == "" || m.Time.IsZero() {
		return nil, &SendError{Op: "message", Reason: "text, HTML or time is missing", Permanent: true}
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(to)
	msg.Subject(m.Subject)
	msg.SetDateWithValue(m.Time)
	msg.SetMessageIDWithValue(rand.Text() + "@" + domainOf(s.from.Address))
	// RFC 3834, 5: keeps vacation responders from answering.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return msg, nil
}

// connect opens the connection, with TLS when it is implicit.
func (s *SMTP) connect(ctx context.Context) (net.Conn, error) {
	conn, err := s.dial(ctx, "tcp", s.server.addr())
	if err != nil || !s.server.ImplicitTLS {
		return conn, err
	}
	secure := tls.Client(conn, s.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// open greets the server, upgrades to TLS and logs in. On an error it names the
// step.
func (s *SMTP) open(conn net.Conn) (*smtp.Client, string, error) {
	client, err := smtp.NewClient(conn, s.server.Host)
	if err != nil {
		return nil, "greeting", err
	}
	// The domain of the sender: unlike the name of a container it is fully
	// qualified, as RFC 5321, 4.1.1.1 wants it.
	if err := client.Hello(domainOf(s.from.Address)); err != nil {
		return nil, "greeting", err
	}
	if err := s.upgrade(client); err != nil {
		return nil, "STARTTLS", err
	}
	if s.server.Username == "" {
		return client, "", nil
	}
	if err := s.login(client); err != nil {
		return nil, "login", err
	}
	return client, "", nil
}

// Refusals that happen on this side of the wire.
var (
	errNoSTARTTLS = errors.New("the server does not offer STARTTLS, which is required")
	errPlaintext  = errors.New("the connection is not encrypted: credentials are not sent over it")
	errNoAuth     = errors.New("the server offers no login, or none with PLAIN, LOGIN, SCRAM-SHA-256 or CRAM-MD5")
)

func (s *SMTP) upgrade(client *smtp.Client) error {
	if s.server.ImplicitTLS || s.server.STARTTLS == STARTTLSNever {
		return nil
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		if s.server.STARTTLS == STARTTLSOpportunistic {
			return nil
		}
		return errNoSTARTTLS
	}
	return client.StartTLS(s.tls)
}

// login sends the credentials, over TLS only unless the server is this machine.
// PLAIN comes first: inside verified TLS it is as safe as the others, and the
// challenge mechanisms are often offered by servers that cannot serve them.
func (s *SMTP) login(client *smtp.Client) error {
	if _, encrypted := client.TLSConnectionState(); !encrypted && !s.server.loopback() {
		return errPlaintext
	}
	_, offered := client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	user, password, host := s.server.Username, s.server.Password, s.server.Host
	switch {
	// The library's own rule for plaintext knows fewer spellings of loopback than
	// the one above, which has already decided: hence the last argument.
	case slices.Contains(mechanisms, "PLAIN"):
		return client.Auth(smtp.PlainAuth("", user, password, host, true))
	case slices.Contains(mechanisms, "LOGIN"):
		return client.Auth(smtp.LoginAuth(user, password, host, true))
	case slices.Contains(mechanisms, "SCRAM-SHA-256"):
		return client.Auth(smtp.ScramSHA256Auth(user, password))
	case slices.Contains(mechanisms, "CRAM-MD5"):
		return client.Auth(smtp.CRAMMD5Auth(user, password))
	}
	return errNoAuth
}

func (s *SMTP) transfer(ctx context.Context, client *smtp.Client, msg *gomail.Msg) error {
	// NOOP and RSET serve connections that carry several messages.
	sender, err := gomail.NewClient(s.server.Host, gomail.WithTimeout(s.timeout), gomail.WithoutNoop(), gomail.WithoutRset())
	if err != nil {
		return &SendError{Op: "message", Reason: "the server's name is not usable", Permanent: true}
	}
	sendErr := sender.SendWithSMTPClient(client, msg)
	// The server owns the message once it has acknowledged the final dot: a
	// failure after that, QUIT included, must not send the mail twice.
	if msg.IsDelivered() {
		_ = client.Quit()
		return nil
	}
	return s.fail(ctx, "message", sendErr)
}

// fail describes err in our own words.
func (s *SMTP) fail(ctx context.Context, op string, err error) *SendError {
	e := &SendError{Op: op}
	if ctxErr := ctx.Err(); ctxErr != nil {
		e.cause = ctxErr
		e.Reason = "interrupted"
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			e.Reason = "no answer within " + s.timeout.String()
		}
		return e
	}
	if sendErr, ok := errors.AsType[*gomail.SendError](err); ok {
		e.Code = sendErr.ErrorCode()
		e.Enhanced = sendErr.EnhancedStatusCode()
		switch sendErr.Reason {
		case gomail.ErrSMTPMailFrom:
			e.Op = "sender"
		case gomail.ErrSMTPRcptTo:
			e.Op = "recipient"
		case gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
			e.Op = "content"
		default: // the other steps keep the name "message"
		}
		// 5yz to the sender is a matter of settings that an operator can mend
		// while the job waits; 5yz to the recipient or the content is final.
		e.Permanent = e.Code >= 500 && (e.Op == "recipient" || e.Op == "content")
		if e.Code == 0 {
			e.Reason = "the connection broke"
		}
		return e
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		e.Code = reply.Code
		return e
	}
	e.Reason = s.reason(err)
	return e
}

// reason puts the failures that an operator meets into words, and the server's
// address, which is theirs to check.
func (s *SMTP) reason(err error) string {
	var (
		dnsErr    *net.DNSError
		certErr   *tls.CertificateVerificationError
		recordErr tls.RecordHeaderError
		netErr    net.Error
	)
	addr := s.server.addr()
	switch {
	case errors.Is(err, errNoSTARTTLS), errors.Is(err, errPlaintext), errors.Is(err, errNoAuth):
		return fmt.Sprintf("%s: %v", addr, err)
	case errors.As(err, &dnsErr):
		return addr + ": the host name does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		return addr + ": connection refused"
	case errors.As(err, &certErr):
		return addr + ": the certificate is not valid for this host or not signed by a known authority"
	case errors.As(err, &recordErr):
		return addr + ": the server does not speak TLS on this port"
	case errors.As(err, &netErr) && netErr.Timeout():
		return addr + ": timed out"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return addr + ": the server closed the connection"
	}
	return addr + ": the exchange broke off"
}

// addr is host:port.
func (s SMTPServer) addr() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}
