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

// defaultTimeout bounds one delivery. It stays below the minute that a job has, so that a hanging server is
// reported as such.
const defaultTimeout = 30 * time.Second

// SMTPConfig configures [NewSMTP].
type SMTPConfig struct {
	// URL of the server, see [ParseSMTPURL].
	URL string
	// From is the sender, see [ParseFrom].
	From string
	// Timeout bounds one delivery from connecting to the server's last reply. Default 30 s.
	Timeout time.Duration
	// RootCAs verifies the server's certificate. Nil means the system's roots. See [RootCAs].
	RootCAs *x509.CertPool
	// OAuth is where the access tokens come from that a URL with auth=xoauth2 logs in with.
	OAuth OAuth
	// Dial opens the TCP connection. Nil means a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// SMTP delivers to a mail server, one connection per message: a service that sends a mail now and then has no
// use for an idle connection that the server closes. Safe for concurrent use.
type SMTP struct {
	server  SMTPServer
	from    *netmail.Address
	timeout time.Duration
	tls     *tls.Config
	tokens  *accessTokens // nil: the login is with the password of the URL, or none
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewSMTP checks the settings; it does not connect. Errors wrap [ErrSMTPURL], [ErrFrom] or [ErrOAuth].
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

// Try is Send that also reports its progress: it calls say with one line for each step, in this package's
// words and the server's.
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
	// The SMTP library waits in reads and writes: closing under its feet is what ends them when ctx does.
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
	_ = client.Quit() // the server owns the message: a failure from here on must not send it twice
	return nil
}

// secret is what the login is made with: the password, or an access token.
func (s *SMTP) secret() (string, error) {
	if s.tokens == nil {
		return s.server.Password, nil
	}
	return s.tokens.get()
}

// letter is a message on its way.
type letter struct {
	msg      *gomail.Msg
	from, to *netmail.Address
}

// write turns m into a MIME message. What it refuses would be refused again.
func (s *SMTP) write(m Message) (*letter, error) {
	to, err := netmail.ParseAddress(m.To)
	// A display name would let whoever chose the address write into the header.
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
	// RFC 3834, 5: keeps vacation responders from answering.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.Language != "" {
		msg.SetGenHeader(gomail.HeaderContentLang, m.Language)
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return &letter{msg: msg, from: s.from, to: to}, nil
}

// fits keeps a letter back that the server cannot be given as it is. A relay that is handed an address that
// needs SMTPUTF8 without being asked for it may change the part before the @ to that of another mailbox.
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

// noSMTPUTF8 says why the server is not asked for SMTPUTF8, or nothing when it may be.
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

// eximHello is how Exim answers EHLO: "relay.example.com Hello app.example.com [192.0.2.1]".
var eximHello = regexp.MustCompile(`^\S+ Hello (\S+ at )?\S+ \[[0-9A-Fa-f.:]+\]$`)

// isExim says whether the server looks like Exim: since version 4.94 it offers an extension of its own, and
// all versions greet by name and address. Exim 4.96 hands jörg@example.org as xn--jrg-sna@example.org to a
// server without SMTPUTF8; whoever has that mailbox would get the links.
func isExim(client *smtp.Client) bool {
	own, _ := client.Extension("PIPECONNECT")
	return own || eximHello.MatchString(client.HelloResponse())
}

// needsUTF8: domains are A-labels here, so it is the parts before the @ that decide.
func (l *letter) needsUTF8() bool {
	return !address.IsASCII(l.from.Address) || !address.IsASCII(l.to.Address)
}

// transfer hands the letter over, and returns the server's last answer. On an error it names the step.
func (l *letter) transfer(client *smtp.Client) (answer, op string, err error) {
	// The library asks for SMTPUTF8 wherever it is offered. A relay that was asked for it and cannot pass it
	// on bounces the mail, or rewrites its addresses (see isExim): asked for only where nothing else will do.
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

// open greets the server, upgrades to TLS and logs in. On an error it names the step.
func (s *SMTP) open(conn net.Conn, secret string, say func(string)) (*smtp.Client, string, error) {
	client, err := smtp.NewClient(conn, s.server.Host)
	if err != nil {
		return nil, "greeting", err
	}
	// The domain of the sender: unlike the name of a container it is fully qualified, as RFC 5321, 4.1.1.1
	// wants it.
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

// Refusals that happen on this side of the wire.
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

// login sends the credentials, over TLS only unless the server is this machine. PLAIN comes first: inside
// verified TLS it is as safe as the others, and the challenge mechanisms are often offered by servers that
// cannot serve them.
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
	// The library's own rule for plaintext knows fewer spellings of loopback than the one above, which has
	// already decided: hence the last argument.
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

// addr is host:port.
func (s SMTPServer) addr() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}
