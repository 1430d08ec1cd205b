package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	netmail "net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/latchkey-auth/latchkey/internal/address"
)

// defaultTimeout limits one delivery. It is shorter than the minute that a job may take, so that the job can report
// that the server does not answer.
const defaultTimeout = 30 * time.Second

// SMTPConfig configures [NewSMTP].
type SMTPConfig struct {
	// URL is the URL of the server, see [ParseSMTPURL].
	URL string
	// From is the sender, see [ParseFrom].
	From string
	// Timeout limits one delivery, from the start of the connection to the last reply of the server. Default 30 s.
	Timeout time.Duration
	// RootCAs are the authorities that verify the server's certificate. Nil: the system's. See the function [RootCAs].
	RootCAs *x509.CertPool
	// OAuth says where the access tokens come from if the URL has auth=xoauth2.
	OAuth OAuth
	// Dial opens the TCP connection. Nil means a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// SMTP delivers mails to a mail server, with one connection for each message. The service sends mails rarely, and a
// server would close an idle connection. Safe for concurrent use.
type SMTP struct {
	server  SMTPServer
	from    *netmail.Address
	timeout time.Duration
	tls     *tls.Config
	tokens  *accessTokens // nil: the login uses the password of the URL, or there is no login
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewSMTP checks the settings. It does not connect. Errors wrap [ErrSMTPURL], [ErrFrom] or [ErrOAuth].
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
	if server.XOAUTH2 {
		if s.tokens, err = newAccessTokens(cfg.OAuth); err != nil {
			return nil, err
		}
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
	return s.Try(ctx, m, func(string) {})
}

// Try is Send with a report of its progress: it calls say with one line for each step, in words of this package and the
// server's.
func (s *SMTP) Try(ctx context.Context, m Message, say func(line string)) error {
	l, err := s.write(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	secret, err := s.secret() //nolint:contextcheck // a token outlives the mail that it was fetched for
	if err != nil {
		return err
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return s.fail(ctx, "connect", err, quoted{m, secret})
	}
	// The SMTP library waits in reads and writes. Closing the connection ends them when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	say("connected to " + s.server.addr())

	client, op, err := s.open(conn, secret, say)
	if err != nil {
		if s.tokens != nil && op == "login" {
			s.tokens.drop()
		}
		return s.fail(ctx, op, err, quoted{m, secret})
	}
	if err := l.fits(client, s.server.SMTPUTF8); err != nil {
		return err
	}
	answer, op, err := l.transfer(client)
	if err != nil {
		return s.fail(ctx, op, err, quoted{m, secret})
	}
	say("accepted: " + words(answer, quoted{m, secret}, s.from.Address))
	_ = client.Quit() // the server owns the message, and an error here must not cause a second mail
	return nil
}

// secret returns the password or an access token for the login.
func (s *SMTP) secret() (string, error) {
	if s.tokens == nil {
		return s.server.Password, nil
	}
	return s.tokens.get()
}

// letter is a message that is being sent.
type letter struct {
	msg      *gomail.Msg
	from, to *netmail.Address
}

// write turns m into a MIME message. If it refuses a message, it would always refuse it.
func (s *SMTP) write(m Message) (*letter, error) {
	to, err := netmail.ParseAddress(m.To)
	// With a display name, the person who chose the address could write into the header.
	if err != nil || hasControl(m.To) || (to.Address != m.To && to.String() != "<"+m.To+">") {
		return nil, &SendError{Op: "recipient", Reason: "the address is not valid", Permanent: true}
	}
	if !address.IsASCII(domainOf(to.Address)) {
		return nil, &SendError{Op: "recipient", Reason: "the domain of the address cannot be written in the DNS (it has no A-label form)", Permanent: true}
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
	// RFC 3834, 5: vacation responders do not answer then.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.Language != "" {
		msg.SetGenHeader(gomail.HeaderContentLang, m.Language)
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return &letter{msg: msg, from: s.from, to: to}, nil
}

// fits refuses a letter if the server cannot be given it as it is. If a relay gets an address that needs SMTPUTF8
// without a request for SMTPUTF8, it may change the part before the @ to that of another mailbox.
func (l *letter) fits(client *smtp.Client, rule SMTPUTF8) error {
	if !l.needsUTF8() {
		return nil
	}
	why := noSMTPUTF8(client, rule)
	if why == "" {
		return nil
	}
	reason := "the address is not ASCII before the @, which needs SMTPUTF8 (RFC 6531), and " + why
	if !address.IsASCII(l.from.Address) {
		return &SendError{Op: "sender", Reason: reason}
	}
	return &SendError{Op: "recipient", Reason: reason, Permanent: true}
}

// noSMTPUTF8 says why SMTPUTF8 is not requested from the server. It returns "" if it may be requested.
func noSMTPUTF8(client *smtp.Client, rule SMTPUTF8) string {
	switch offered, _ := client.Extension("SMTPUTF8"); {
	case !offered:
		return "the server does not offer that"
	case rule == SMTPUTF8Never:
		return "LATCHKEY_SMTP_URL says smtputf8=never"
	case rule == SMTPUTF8Offered && isExim(client):
		return "the server is Exim, which writes it as that of another mailbox where the next server does not offer that: " +
			"give LATCHKEY_SMTP_URL smtputf8=trusted if every next one does"
	}
	return ""
}

// eximHello is Exim's answer to EHLO: "relay.example.com Hello app.example.com [192.0.2.1]".
var eximHello = regexp.MustCompile(`^\S+ Hello (\S+ at )?\S+ \[[0-9A-Fa-f.:]+\]$`)

// isExim returns whether the server looks like Exim. Since version 4.94 it offers an extension of its own, and all
// versions greet with name and address. Exim 4.96 delivers mail for jörg@example.org to xn--jrg-sna@example.org if the
// next server has no SMTPUTF8. The owner of that mailbox would get the links.
func isExim(client *smtp.Client) bool {
	own, _ := client.Extension("PIPECONNECT")
	return own || eximHello.MatchString(client.HelloResponse())
}

// needsUTF8 returns whether the letter needs SMTPUTF8. Domains are A-labels here, so only the parts before the @
// matter.
func (l *letter) needsUTF8() bool {
	return !address.IsASCII(l.from.Address) || !address.IsASCII(l.to.Address)
}

// transfer sends the letter, and returns the server's last answer. With an error it returns the name of the step.
func (l *letter) transfer(client *smtp.Client) (answer, op string, err error) {
	// The library requests SMTPUTF8 from every server that offers it. A relay that cannot pass it on then bounces the
	// mail, or changes its addresses (see isExim). So request it only if the letter needs it.
	client.SkipSMTPUTF8(!l.needsUTF8())
	if err := client.Mail((&netmail.Address{Address: l.from.Address}).String()); err != nil {
		return "", "sender", err
	}
	if err := client.Rcpt((&netmail.Address{Address: l.to.Address}).String()); err != nil {
		return "", "recipient", err
	}
	w, err := client.Data()
	if err != nil {
		return "", "content", err
	}
	if _, err := l.msg.WriteTo(w); err != nil {
		return "", "content", err
	}
	if err := w.Close(); err != nil {
		return "", "content", err
	}
	if closer, ok := w.(*smtp.DataCloser); ok {
		answer = closer.ServerResponse()
	}
	return answer, "", nil
}

// connect opens the connection, with TLS from the first byte if the URL says smtps.
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

// open greets the server, upgrades to TLS and logs in. With an error it returns the name of the step.
func (s *SMTP) open(conn net.Conn, secret string, say func(string)) (*smtp.Client, string, error) {
	client, err := smtp.NewClient(conn, s.server.Host)
	if err != nil {
		return nil, "greeting", err
	}
	// The domain of the sender. It is fully qualified, as RFC 5321, 4.1.1.1 requires, and the name of a container is
	// not.
	if err := client.Hello(domainOf(s.from.Address)); err != nil {
		return nil, "greeting", err
	}
	if err := s.upgrade(client); err != nil {
		return nil, "STARTTLS", err
	}
	if state, encrypted := client.TLSConnectionState(); encrypted {
		say("encrypted with " + tls.VersionName(state.Version) + ", the certificate is valid for " + s.server.Host)
	} else {
		say("not encrypted")
	}
	if s.server.Username == "" {
		return client, "", nil
	}
	if err := s.login(client, secret); err != nil {
		return nil, "login", err
	}
	say("logged in")
	return client, "", nil
}

// Errors of this side, not of the server.
var (
	errNoSTARTTLS = errors.New("the server does not offer STARTTLS, which is required")
	errPlaintext  = errors.New("the connection is not encrypted: credentials are not sent over it")
	errNoXOAUTH2  = errors.New("the server does not offer XOAUTH2: drop auth=xoauth2 and give a password")
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

// login sends the credentials, only over TLS unless the server is this machine. PLAIN comes first: within verified TLS
// it is as safe as the others, and servers often offer challenge mechanisms that they cannot serve.
func (s *SMTP) login(client *smtp.Client, secret string) error {
	if _, encrypted := client.TLSConnectionState(); !encrypted && !s.server.loopback() {
		return errPlaintext
	}
	_, offered := client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	user, password, host := s.server.Username, secret, s.server.Host
	switch {
	case s.server.XOAUTH2 && !slices.Contains(mechanisms, "XOAUTH2"):
		return errNoXOAUTH2
	case s.server.XOAUTH2:
		return client.Auth(smtp.XOAuth2Auth(user, secret))
	// The library's own check for plaintext knows fewer spellings of loopback than the check above, which has already
	// decided. So the last argument switches it off.
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

// addr returns host:port.
func (s SMTPServer) addr() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}
