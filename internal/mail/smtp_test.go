package mail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

var written = time.Date(2026, time.November, 24, 3, 41, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func message() mail.Message {
	return mail.Message{
		To: "ada@example.org", Subject: "Reset your password for Größe & Co",
		Text: "Open https://app.example.com/reset?token=abc=\n.\nBye\n", HTML: "<p>Größe &amp; more</p>", Time: written,
	}
}

// sender makes a client that knows s as mail.example.com, so that no exception for loopback applies.
func sender(t *testing.T, s *smtpServer, url string) *mail.SMTP {
	t.Helper()
	out, err := mail.NewSMTP(mail.SMTPConfig{
		URL: url, From: "Latchkey <no-reply@example.com>", RootCAs: s.roots, Timeout: 10 * time.Second,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSMTPDelivers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url, login string
		setup            func(*smtpServer)
		tls              bool
	}{
		{name: "STARTTLS", url: "smtp://mail.example.com", tls: true},
		{
			name: "STARTTLS and login", url: "smtp://u%40x:p%2Fw@mail.example.com:587", login: "\x00u@x\x00p/w",
			setup: func(s *smtpServer) { s.auth = true }, tls: true,
		},
		{
			name: "implicit TLS and login", url: "smtps://user:secret@mail.example.com", login: "\x00user\x00secret",
			setup: func(s *smtpServer) { s.implicit, s.auth = true, true }, tls: true,
		},
		{name: "opportunistic, offered", url: "smtp://mail.example.com?starttls=opportunistic", tls: true},
		{
			name: "opportunistic, not offered", url: "smtp://mail.example.com?starttls=opportunistic",
			setup: func(s *smtpServer) { s.starttls = false },
		},
		{name: "never", url: "smtp://mail.example.com?starttls=never"},
		{
			name: "plaintext login on loopback", url: "smtp://user:secret@127.0.0.9?starttls=never", login: "\x00user\x00secret",
			setup: func(s *smtpServer) { s.auth = true },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, tt.setup)
			if err := sender(t, s, tt.url).Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			got := s.got()
			if len(got) != 1 {
				t.Fatalf("%d messages, want 1", len(got))
			}
			if got[0].tls != tt.tls || got[0].login != tt.login || got[0].to != "ada@example.org" {
				t.Errorf("tls %v, login %q, to %q", got[0].tls, got[0].login, got[0].to)
			}
			if tt.tls && strings.Contains(s.plaintext(), "AUTH") {
				t.Error("AUTH came before TLS")
			}
			checkMIME(t, got[0].data)
		})
	}
}

// checkMIME parses the received mail with the standard library.
func checkMIME(t *testing.T, data string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	want := message()
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != want.Subject {
		t.Errorf("subject %q, %v", subject, err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(written) {
		t.Errorf("date %v, %v", date, err)
	}
	for key, value := range map[string]string{
		"From": `"Latchkey" <no-reply@example.com>`, "To": "<ada@example.org>", "Auto-Submitted": "auto-generated", "User-Agent": "",
	} {
		if got := m.Header.Get(key); got != value {
			t.Errorf("%s: %q, want %q", key, got, value)
		}
	}
	if id := m.Header.Get("Message-Id"); !strings.HasSuffix(id, "@example.com>") || len(id) < 30 {
		t.Errorf("Message-ID %q", id)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, part := range []struct{ kind, body string }{{"text/plain", want.Text}, {"text/html", want.HTML}} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.Header.Get("Content-Type"), part.kind) {
			t.Errorf("part %q, want %q", p.Header.Get("Content-Type"), part.kind)
		}
		if got := strings.ReplaceAll(string(body), "\r\n", "\n"); strings.TrimRight(got, "\n") != strings.TrimRight(part.body, "\n") {
			t.Errorf("%s: %q, want %q", part.kind, got, part.body)
		}
	}
}

// TestSMTPRefusesPlaintext acts as an attacker on the network who removes STARTTLS. Neither the mail nor the
// credentials may be sent.
func TestSMTPRefusesPlaintext(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ url, want string }{
		"default":                        {"smtp://mail.example.com", "STARTTLS"},
		"default with login":             {"smtp://user:hunter22@mail.example.com", "STARTTLS"},
		"opportunistic but with a login": {"smtp://user:hunter22@mail.example.com?starttls=opportunistic", "not encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, func(s *smtpServer) { s.starttls, s.auth = false, true })
			err := sender(t, s, tt.url).Send(t.Context(), message())
			var failed *mail.SendError
			if !errors.As(err, &failed) || failed.Permanent || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(err.Error(), "hunter22") {
				t.Errorf("the password is in %q", err)
			}
			for _, verb := range []string{"AUTH", "MAIL", "RCPT", "DATA"} {
				if strings.Contains(s.plaintext(), verb) {
					t.Errorf("%s was sent in plaintext", verb)
				}
			}
		})
	}
}

func TestSMTPVerifiesCertificate(t *testing.T) {
	t.Parallel()
	s := startSMTP(t, func(s *smtpServer) { s.auth = true })
	for _, url := range []string{"smtp://u:p@other.example.com", "smtp://u:p@other.example.com?starttls=opportunistic"} {
		err := sender(t, s, url).Send(t.Context(), message())
		if err == nil || !strings.Contains(err.Error(), "certificate is not for other.example.com but for mail.example.com") {
			t.Errorf("%s: %v", url, err)
		}
	}
	implicit := startSMTP(t, func(s *smtpServer) { s.implicit = true })
	if err := sender(t, implicit, "smtps://other.example.com").Send(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("smtps: %v", err)
	}
	if len(s.got())+len(implicit.got()) != 0 {
		t.Error("a mail was delivered to a server that could not prove its name")
	}
}

// TestSMTPErrors checks the errors for refusals. They have the server's text without the quotations, here the link.
// Refusals for policy and full mailboxes are not permanent.
func TestSMTPErrors(t *testing.T) {
	t.Parallel()
	const leak = " https://app.example.com/reset?token=abc= <ada@example.org>"
	tests := []struct {
		name, verb, reply string
		op                string
		code              int
		enhanced, text    string
		permanent         bool
	}{
		{"greeting", "", "554 5.7.1 no", "greeting", 554, "5.7.1", "no", false},
		{"login", "AUTH", "535 5.7.8 Username and Password not accepted.", "login", 535, "5.7.8", "Username and Password not accepted.", false},
		{"login, echoed", "AUTH", "535 5.7.8 AHUAc2VjcmV0MTIz not decoded: secret123", "login", 535, "5.7.8", "(…) not decoded: (…)", false},
		{"sender", "MAIL", "550 5.7.1 no relay for example.com", "sender", 550, "5.7.1", "no relay for example.com", false},
		{"recipient, for now", "RCPT", "451 4.7.1 greylisted", "recipient", 451, "4.7.1", "greylisted", false},
		{"recipient, for good", "RCPT", "550 5.1.1 unknown:" + leak, "recipient", 550, "5.1.1", "unknown: (…) (address)", true},
		{"recipient, without enhanced codes", "RCPT", "550 unknown", "recipient", 550, "", "unknown", true},
		{"relaying denied", "RCPT", "554 5.7.1 <ada@example.org>: Relay access denied", "recipient", 554, "5.7.1", "(address) Relay access denied", false},
		{"log in first", "RCPT", "530 log in first", "recipient", 530, "", "log in first", false},
		{"mailbox full", "RCPT", "552 5.2.2 mailbox full", "recipient", 552, "5.2.2", "mailbox full", false},
		{"mailbox full, without enhanced codes", "RCPT", "552 mailbox full", "recipient", 552, "", "mailbox full", false},
		{"a code of another class", "RCPT", "550 4.2.2 odd", "recipient", 550, "", "odd", true},
		{"several lines", "RCPT", "550-5.1.1 no such\r\n550 5.1.1 user", "recipient", 550, "5.1.1", "no such user", true},
		{"content, for now", ".", "452 4.3.1 later" + leak, "content", 452, "4.3.1", "later (…) (address)", false},
		{"content, policy", ".", "554 5.7.1 rejected:" + leak, "content", 554, "5.7.1", "rejected: (…) (address)", false},
		{"content, for good", ".", "554 5.6.0 malformed", "content", 554, "5.6.0", "malformed", true},
		{"before the content", "DATA", "421 4.3.0 closing", "content", 421, "4.3.0", "closing", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, func(s *smtpServer) {
				s.auth = true
				s.reply = func(verb, _ string) string {
					if verb == tt.verb {
						return tt.reply
					}
					return ""
				}
			})
			err := sender(t, s, "smtp://u:secret123@mail.example.com").Send(t.Context(), message())
			var failed *mail.SendError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v", err)
			}
			if failed.Op != tt.op || failed.Code != tt.code || failed.Enhanced != tt.enhanced || failed.Text != tt.text || failed.Permanent != tt.permanent {
				t.Errorf("got %+v", *failed)
			}
			if !strings.HasSuffix(err.Error(), ": "+tt.text) || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "ada@") || strings.Contains(err.Error(), "secret123") {
				t.Errorf("said: %q", err)
			}
		})
	}
}

// SMTPUTF8 is requested only if the part before the @ needs it (RFC 6531, 3.4). Otherwise a relay that cannot pass it
// on bounces the mail, or sends it to another mailbox. If it is needed and not offered, nothing is sent.
func TestSMTPUTF8(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to string
		offered  bool
		asked    bool
		refused  string
	}{
		{"no-reply@example.com", "ada@example.org", true, false, ""},
		{"no-reply@example.com", "ada@xn--bcher-kva.example", true, false, ""},
		{"Grüße <no-reply@example.com>", "ada@example.org", true, false, ""},
		{"no-reply@example.com", "jörg@xn--bcher-kva.example", true, true, ""},
		{"größe@example.com", "ada@example.org", true, true, ""},
		{"no-reply@example.com", "ada@example.org", false, false, ""},
		{"no-reply@example.com", "jörg@example.org", false, false, "does not offer"},
		{"größe@example.com", "ada@example.org", false, false, "does not offer"},
		{"no-reply@example.com", "ada@bücher.example", true, false, "cannot be written in the DNS"},
	} {
		t.Run(fmt.Sprintf("%s to %s, offered %v", tt.from, tt.to, tt.offered), func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, func(s *smtpServer) { s.utf8 = tt.offered })
			out, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://" + s.addr, From: tt.from, RootCAs: s.roots})
			if err != nil {
				t.Fatal(err)
			}
			m := message()
			m.To = tt.to
			err = out.Send(t.Context(), m)
			got := s.got()
			if tt.refused != "" {
				var failed *mail.SendError
				if !errors.As(err, &failed) || !strings.Contains(failed.Reason, tt.refused) || len(got) != 0 {
					t.Errorf("%v, %d sent, want a refusal that says %q", err, len(got), tt.refused)
				}
				if settings := failed != nil && failed.Op == "sender"; failed != nil && failed.Permanent == settings {
					t.Errorf("permanent %v: %v", failed.Permanent, failed)
				}
				return
			}
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %d sent", err, len(got))
			}
			if asked := strings.HasSuffix(got[0].from, " SMTPUTF8"); asked != tt.asked || got[0].to != tt.to {
				t.Errorf("%q, to %q", got[0].from, got[0].to)
			}
		})
	}
}

// An Exim that cannot pass such an address on changes it to that of another mailbox. So SMTPUTF8 is not requested from
// Exim unless the operator trusts it. Addresses that do not need it pass.
func TestSMTPUTF8Exim(t *testing.T) {
	t.Parallel()
	const (
		modern = "250-relay.example.com Hello example.com [127.0.0.1]\r\n250-8BITMIME\r\n250-PIPECONNECT\r\n250-SMTPUTF8\r\n250 HELP"
		hidden = "250-relay.example.com ESMTP\r\n250-PIPECONNECT\r\n250 SMTPUTF8"
		old    = "250-relay.example.com Hello example.com [2001:db8::1]\r\n250-SMTPUTF8\r\n250 HELP"
		ident  = "250-relay.example.com Hello root at example.com [127.0.0.1]\r\n250 SMTPUTF8"
		hosted = "250-relay.example.com Hello [127.0.0.1]\r\n250 SMTPUTF8" // Exchange
		other  = "250-relay.example.com\r\n250 SMTPUTF8"
	)
	for _, tt := range []struct {
		name, ehlo, query, to string
		refused               string
	}{
		{"Exim", modern, "", "jörg@example.org", "the server is Exim"},
		{"Exim with another greeting", hidden, "", "jörg@example.org", "the server is Exim"},
		{"an older Exim", old, "", "jörg@example.org", "the server is Exim"},
		{"Exim that knows the caller", ident, "", "jörg@example.org", "the server is Exim"},
		{"Exim, ASCII", modern, "", "ada@example.org", ""},
		{"a trusted Exim", modern, "&smtputf8=trusted", "jörg@example.org", ""},
		{"Exchange", hosted, "", "jörg@example.org", ""},
		{"another server", other, "", "jörg@example.org", ""},
		{"never", other, "&smtputf8=never", "jörg@example.org", "smtputf8=never"},
		{"never, ASCII", other, "&smtputf8=never", "ada@example.org", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, func(s *smtpServer) {
				s.reply = func(verb, _ string) string {
					if verb == "EHLO" {
						return tt.ehlo
					}
					return ""
				}
			})
			out, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://" + s.addr + "?starttls=never" + tt.query, From: "no-reply@example.com"})
			if err != nil {
				t.Fatal(err)
			}
			m := message()
			m.To = tt.to
			err = out.Send(t.Context(), m)
			var failed *mail.SendError
			switch got := s.got(); {
			case tt.refused == "" && (err != nil || len(got) != 1 || got[0].to != tt.to):
				t.Errorf("%v, %v", err, got)
			case tt.refused != "" && (!errors.As(err, &failed) || !failed.Permanent || failed.Op != "recipient" || !strings.Contains(failed.Reason, tt.refused) || len(got) != 0):
				t.Errorf("%v, %d sent, want a refusal that says %q", err, len(got), tt.refused)
			}
		})
	}
}

// If an operator mixes up ports and schemes, the error says what to write instead.
func TestSMTPWrongPort(t *testing.T) {
	t.Parallel()
	banner := func(text string) func(*smtpServer) {
		return func(s *smtpServer) {
			s.reply = func(verb, _ string) string {
				if verb == "" {
					return text
				}
				return ""
			}
		}
	}
	for name, tt := range map[string]struct {
		scheme string
		setup  func(*smtpServer)
		want   string
	}{
		"STARTTLS on a port of TLS": {"smtp", func(s *smtpServer) { s.implicit = true }, "write smtps://"},
		"TLS on a port of STARTTLS": {"smtps", nil, "write smtp://"},
		"SSH":                       {"smtp", banner("SSH-2.0-OpenSSH_9.2p1"), "no mail server"},
		"IMAP":                      {"smtp", banner("* OK IMAP4rev1 ready"), "no mail server"},
		"HTTPS": {"smtps", func(s *smtpServer) {
			banner("HTTP/1.1 400 Bad Request")(s)
			s.implicit = true
		}, "no mail server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSMTP(t, tt.setup)
			out, err := mail.NewSMTP(mail.SMTPConfig{URL: tt.scheme + "://" + s.addr, From: "a@example.com", RootCAs: s.roots, Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Send(t.Context(), message()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

// A private authority is trusted only if the file names it, and the error about any other names the setting.
func TestRootCAs(t *testing.T) {
	t.Parallel()
	s := startSMTP(t, nil)
	dir := t.TempDir()
	own, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	if err := errors.Join(os.WriteFile(own, s.pem, 0o600), os.WriteFile(empty, []byte("nothing"), 0o600)); err != nil {
		t.Fatal(err)
	}
	roots, err := mail.RootCAs(own)
	if err != nil {
		t.Fatal(err)
	}
	out, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://" + s.addr, From: "a@example.com", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Send(t.Context(), message()); err != nil {
		t.Error(err)
	}
	for _, file := range []string{empty, filepath.Join(dir, "missing.pem")} {
		if _, err := mail.RootCAs(file); err == nil {
			t.Errorf("%s was taken", file)
		}
	}
	out, err = mail.NewSMTP(mail.SMTPConfig{URL: "smtp://" + s.addr, From: "a@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Send(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "LATCHKEY_SMTP_CA_FILE") {
		t.Errorf("without it: %v", err)
	}
}

// After the final 250 the server owns the mail. An error of QUIT must not be a failure, or the mail is sent twice.
func TestSMTPTrustsTheAcknowledgement(t *testing.T) {
	t.Parallel()
	s := startSMTP(t, func(s *smtpServer) {
		s.reply = func(verb, _ string) string {
			if verb == "QUIT" || verb == "RSET" {
				return "421 4.3.0 shutting down"
			}
			return ""
		}
	})
	if err := sender(t, s, "smtp://mail.example.com").Send(t.Context(), message()); err != nil {
		t.Error(err)
	}
	if n := len(s.got()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestSMTPStopsWithItsContext(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	release := make(chan struct{})
	s := startSMTP(t, func(s *smtpServer) {
		s.reply = func(verb, _ string) string {
			if verb == "RCPT" {
				close(reached)
				<-release
			}
			return ""
		}
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if err := sender(t, s, "smtp://mail.example.com").Send(ctx, message()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestSMTPTimesOut(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := startSMTP(t, func(s *smtpServer) {
		s.reply = func(string, string) string {
			<-release
			return ""
		}
	})
	defer close(release)
	out, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://" + s.addr, From: "a@example.com", Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Send(t.Context(), message()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestSMTPServerGone(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	out, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://user:hunter22@" + addr, From: "a@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	err = out.Send(t.Context(), message())
	if err == nil || err.Error() != "mail: connect failed: "+addr+": connection refused" {
		t.Errorf("error %v", err)
	}
}

// TestSMTPRefusesInjection tries texts that would become extra headers, commands or recipients.
func TestSMTPRefusesInjection(t *testing.T) {
	t.Parallel()
	s := startSMTP(t, nil)
	out := sender(t, s, "smtp://mail.example.com")
	for name, change := range map[string]func(*mail.Message){
		"CRLF in the address":       func(m *mail.Message) { m.To = "a@example.org\r\nBcc: b@example.org" },
		"LF in the address":         func(m *mail.Message) { m.To = "a@example.org\n" },
		"command in the address":    func(m *mail.Message) { m.To = "a@example.org>\r\nRCPT TO:<b@example.org" },
		"display name":              func(m *mail.Message) { m.To = "Win money at evil.example <a@example.org>" },
		"tab in a quoted address":   func(m *mail.Message) { m.To = "\"a\tb\"@example.org" },
		"two addresses":             func(m *mail.Message) { m.To = "a@example.org, b@example.org" },
		"comment":                   func(m *mail.Message) { m.To = "a@example.org (buy now)" },
		"no domain":                 func(m *mail.Message) { m.To = "postmaster" },
		"empty address":             func(m *mail.Message) { m.To = "" },
		"CRLF in the subject":       func(m *mail.Message) { m.Subject = "Hi\r\nBcc: b@example.org" },
		"CR in the subject":         func(m *mail.Message) { m.Subject = "Hi\rBcc: b@example.org" },
		"empty subject":             func(m *mail.Message) { m.Subject = "" },
		"no text":                   func(m *mail.Message) { m.Text = "" },
		"no HTML":                   func(m *mail.Message) { m.HTML = "" },
		"no time":                   func(m *mail.Message) { m.Time = time.Time{} },
		"NUL in the address":        func(m *mail.Message) { m.To = "a\x00@example.org" },
		"encoded word as recipient": func(m *mail.Message) { m.To = "=?utf-8?q?x=0D=0ABcc=3A?= <a@example.org>" },
	} {
		m := message()
		change(&m)
		err := out.Send(t.Context(), m)
		var failed *mail.SendError
		if !errors.As(err, &failed) || !failed.Permanent {
			t.Errorf("%s: error %v, want a permanent one", name, err)
		}
	}
	if n := s.connections(); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
	for _, to := range []string{`"odd one"@example.org`, "a+b@example.org"} {
		m := message()
		m.To = to
		if err := out.Send(t.Context(), m); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}
