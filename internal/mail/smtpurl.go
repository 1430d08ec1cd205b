package mail

import (
	"errors"
	"fmt"
	"log/slog"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// Errors for settings that do not parse. The errors of the Parse functions wrap them and add a constant explanation.
// They quote no part of the input, because a password with an unescaped "/" or "@" can be in any part of a parsed URL.
var (
	ErrSMTPURL  = errors.New("mail: unusable SMTP URL")
	ErrFrom     = errors.New("mail: unusable sender address")
	ErrResetURL = errors.New("mail: unusable reset URL")
)

// STARTTLS says whether a connection that starts in plaintext is upgraded.
type STARTTLS int

const (
	// STARTTLSRequired upgrades, or does not send (the default).
	STARTTLSRequired STARTTLS = iota
	// STARTTLSOpportunistic upgrades if the server offers it, which an attacker on the network can prevent. With
	// credentials it is the same as required, unless the server is this machine.
	STARTTLSOpportunistic
	// STARTTLSNever does not upgrade.
	STARTTLSNever
)

// SMTPUTF8 says which servers get an address that is not ASCII before the @ (RFC 6531).
type SMTPUTF8 int

const (
	// SMTPUTF8Offered sends to servers that offer SMTPUTF8, unless they look like Exim (the default).
	SMTPUTF8Offered SMTPUTF8 = iota
	// SMTPUTF8Trusted sends to every server that offers SMTPUTF8.
	SMTPUTF8Trusted
	// SMTPUTF8Never sends to no server.
	SMTPUTF8Never
)

// SMTPServer is a parsed SMTP URL.
type SMTPServer struct {
	// Host is a name or an IP address without brackets.
	Host string
	// Port is 1 to 65535.
	Port uint16
	// ImplicitTLS means TLS from the first byte (smtps, RFC 8314).
	ImplicitTLS bool
	// STARTTLS has no meaning with ImplicitTLS.
	STARTTLS STARTTLS
	// SMTPUTF8 matters only for addresses that are not ASCII before the @.
	SMTPUTF8 SMTPUTF8
	// Username and Password are both empty or both set. With XOAUTH2 there is no password.
	Username string
	Password string
	// XOAUTH2 logs in with an access token, see [OAuth].
	XOAUTH2 bool
}

// String returns the URL without the credentials.
func (s SMTPServer) String() string {
	scheme := "smtp"
	if s.ImplicitTLS {
		scheme = "smtps"
	}
	u := url.URL{Scheme: scheme, Host: s.addr()}
	switch s.STARTTLS {
	case STARTTLSRequired:
	case STARTTLSOpportunistic:
		u.RawQuery = "starttls=opportunistic"
	case STARTTLSNever:
		u.RawQuery = "starttls=never"
	}
	if s.XOAUTH2 {
		u.RawQuery += "&auth=xoauth2"
	}
	switch s.SMTPUTF8 {
	case SMTPUTF8Offered:
	case SMTPUTF8Trusted:
		u.RawQuery += "&smtputf8=trusted"
	case SMTPUTF8Never:
		u.RawQuery += "&smtputf8=never"
	}
	u.RawQuery = strings.TrimPrefix(u.RawQuery, "&")
	return u.String()
}

// GoString keeps the credentials out of %#v as well.
func (s SMTPServer) GoString() string { return s.String() }

// LogValue keeps the credentials out of logs.
func (s SMTPServer) LogValue() slog.Value { return slog.StringValue(s.String()) }

// loopback returns whether the written host is this machine.
func (s SMTPServer) loopback() bool { return hosts.IsLoopback(s.Host) }

// Weakness says who else can read the mails that are sent to the server. It returns "" if nobody can.
func (s SMTPServer) Weakness() string {
	switch {
	case s.ImplicitTLS || s.loopback():
	case s.STARTTLS == STARTTLSNever:
		return "sends mails to another machine in plaintext: anybody on the way can read links and set passwords with them. Drop starttls=never"
	case s.STARTTLS == STARTTLSOpportunistic:
		return "sends mails in plaintext when somebody on the way wants it: they can read links and set passwords with them. Drop starttls=opportunistic"
	}
	return ""
}

// ParseSMTPURL reads smtp://user:password@host:587 and smtps://host:465. The ports default to 587 (RFC 6409) and 465
// (RFC 8314). It percent-decodes user name and password. For smtp, ?starttls= is "required" (the default),
// "opportunistic" or "never". ?auth=xoauth2 needs a user name and no password. ?smtputf8= is "trusted" or "never".
// Credentials together with "never" are refused unless the host is this machine. Errors wrap [ErrSMTPURL] and never
// quote the input.
func ParseSMTPURL(raw string) (SMTPServer, error) {
	// The error of url.Parse quotes the URL with its password.
	u, err := url.Parse(raw)
	if err != nil {
		return SMTPServer{}, fmt.Errorf("%w: it does not parse; percent-encode reserved characters such as @ : / ? # %% in the user name and password", ErrSMTPURL)
	}
	var s SMTPServer
	switch u.Scheme {
	case "smtp":
		s.Port = 587
	case "smtps":
		s.Port = 465
		s.ImplicitTLS = true
	default:
		return SMTPServer{}, fmt.Errorf("%w: it must start with smtp:// or smtps://", ErrSMTPURL)
	}
	if u.Opaque != "" || (u.Path != "" && u.Path != "/") || u.Fragment != "" {
		return SMTPServer{}, fmt.Errorf("%w: nothing but ?starttls=, auth= and smtputf8= may follow host and port; percent-encode reserved characters such as @ : / ? # %% in the user name and password", ErrSMTPURL)
	}
	if err := s.setAddress(u); err != nil {
		return SMTPServer{}, err
	}
	if err := s.setParameters(u); err != nil {
		return SMTPServer{}, err
	}
	if err := s.setCredentials(u.User); err != nil {
		return SMTPServer{}, err
	}
	if s.Username != "" && !s.ImplicitTLS && s.STARTTLS == STARTTLSNever && !s.loopback() {
		return SMTPServer{}, fmt.Errorf("%w: credentials are not sent in plaintext to another machine: drop starttls=never or the credentials", ErrSMTPURL)
	}
	return s, nil
}

func (s *SMTPServer) setAddress(u *url.URL) error {
	s.Host = u.Hostname()
	if !validHost(s.Host) {
		return fmt.Errorf("%w: the host is missing or is neither an ASCII host name nor an IP address", ErrSMTPURL)
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%w: the port is not a number from 1 to 65535", ErrSMTPURL)
		}
		s.Port = uint16(n)
	}
	return nil
}

func (s *SMTPServer) setCredentials(user *url.Userinfo) error {
	if user == nil {
		if s.XOAUTH2 {
			return fmt.Errorf("%w: auth=xoauth2 needs the user name of the mailbox: smtp://name%%40example.com@host?auth=xoauth2", ErrSMTPURL)
		}
		return nil
	}
	s.Username = user.Username()
	s.Password, _ = user.Password()
	if s.XOAUTH2 && s.Password != "" {
		return fmt.Errorf("%w: auth=xoauth2 logs in with access tokens: leave the password out", ErrSMTPURL)
	}
	if s.Username == "" || s.Password == "" && !s.XOAUTH2 {
		return fmt.Errorf("%w: give both a user name and a password, or neither", ErrSMTPURL)
	}
	// NUL separates the fields of AUTH PLAIN (RFC 4616), and CR and LF end a command.
	if hasControl(s.Username) || hasControl(s.Password) {
		return fmt.Errorf("%w: the user name or password holds control characters", ErrSMTPURL)
	}
	return nil
}

func (s *SMTPServer) setParameters(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("%w: the part after ? does not parse", ErrSMTPURL)
	}
	for name, values := range query {
		if name != "starttls" && name != "auth" && name != "smtputf8" || len(values) > 1 {
			return fmt.Errorf("%w: three parameters are known, once each: starttls, auth and smtputf8", ErrSMTPURL)
		}
	}
	if query.Has("auth") {
		if query.Get("auth") != "xoauth2" {
			return fmt.Errorf("%w: auth is xoauth2, or left out", ErrSMTPURL)
		}
		s.XOAUTH2 = true
	}
	switch value := query.Get("smtputf8"); {
	case !query.Has("smtputf8"):
	case value == "trusted":
		s.SMTPUTF8 = SMTPUTF8Trusted
	case value == "never":
		s.SMTPUTF8 = SMTPUTF8Never
	default:
		return fmt.Errorf("%w: smtputf8 is trusted or never, or left out", ErrSMTPURL)
	}
	if !query.Has("starttls") {
		return nil
	}
	return s.setSTARTTLS(query.Get("starttls"))
}

func (s *SMTPServer) setSTARTTLS(value string) error {
	if s.ImplicitTLS {
		return fmt.Errorf("%w: starttls has no meaning with smtps://, which is encrypted from the start", ErrSMTPURL)
	}
	switch value {
	case "required":
		s.STARTTLS = STARTTLSRequired
	case "opportunistic":
		s.STARTTLS = STARTTLSOpportunistic
	case "never":
		s.STARTTLS = STARTTLSNever
	default:
		return fmt.Errorf("%w: starttls is required, opportunistic or never", ErrSMTPURL)
	}
	return nil
}

// validHost accepts IP addresses and ASCII host names. Underscores are allowed, because names in container networks
// have them.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	// A name in the DNS has at most 253 characters (RFC 1035, 2.3.4).
	if host == "" || len(host) > 253 {
		return false
	}
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// ParseFrom reads a sender such as "Example <no-reply@example.com>", or a bare address. The domain must be ASCII
// (punycode), because it is also the name in EHLO and in Message-ID. Errors wrap [ErrFrom].
func ParseFrom(from string) (*netmail.Address, error) {
	if hasControl(from) {
		return nil, fmt.Errorf("%w: it holds control characters", ErrFrom)
	}
	addr, err := netmail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("%w: write no-reply@example.com or Example <no-reply@example.com>", ErrFrom)
	}
	if !validHost(domainOf(addr.Address)) {
		return nil, fmt.Errorf("%w: the domain must be an ASCII host name (punycode for others)", ErrFrom)
	}
	return addr, nil
}

func domainOf(address string) string {
	return address[strings.LastIndexByte(address, '@')+1:]
}
