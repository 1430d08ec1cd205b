package mail_test

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
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

// sender makes a client of s that knows it as mail.example.com, so that none of
// the exceptions for loopback apply.
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

// checkMIME parses what arrived with the standard library.
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

// TestSMTPRefusesPlaintext plays the attacker on the wire who strips STARTTLS:
// neither the mail nor the credentials may leave.
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
		if err == nil || !strings.Contains(err.Error(), "certificate") {
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

// TestSMTPErrors checks what is made of refusals, and that the words of the
// server, which quote the link here, go no further.
func TestSMTPErrors(t *testing.T) {
	t.Parallel()
	const leak = "token=abc"
	tests := []struct {
		name, verb, reply string
		op                string
		code              int
		enhanced          string
		permanent         bool
	}{
		{"greeting", "", "554 5.7.1 " + leak, "greeting", 554, "", false},
		{"login", "AUTH", "535 5.7.8 " + leak, "login", 535, "", false},
		{"sender", "MAIL", "550 5.7.1 " + leak, "sender", 550, "5.7.1", false},
		{"recipient, for now", "RCPT", "451 4.7.1 " + leak, "recipient", 451, "4.7.1", false},
		{"recipient, for good", "RCPT", "550 5.1.1 " + leak, "recipient", 550, "5.1.1", true},
		{"content, for now", ".", "452 4.3.1 " + leak, "content", 452, "4.3.1", false},
		{"content, for good", ".", "554 5.7.1 rejected: " + leak, "content", 554, "5.7.1", true},
		{"before the content", "DATA", "421 4.3.0 " + leak, "content", 421, "4.3.0", false},
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
			err := sender(t, s, "smtp://u:p@mail.example.com").Send(t.Context(), message())
			var failed *mail.SendError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v", err)
			}
			if failed.Op != tt.op || failed.Code != tt.code || failed.Enhanced != tt.enhanced || failed.Permanent != tt.permanent {
				t.Errorf("got %+v", *failed)
			}
			if strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "ada@") {
				t.Errorf("the server's words are in %q", err)
			}
		})
	}
}

// TestSMTPTrustsTheAcknowledgement: after the final 250 the mail belongs to the
// server; a failing QUIT must not make it a failure, or it is sent twice.
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

// TestSMTPRefusesInjection feeds what would become extra headers, commands or
// recipients.
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
	for _, to := range []string{`"odd one"@example.org`, "a+b@example.org", "ü@example.org"} {
		m := message()
		m.To = to
		if err := out.Send(t.Context(), m); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}
