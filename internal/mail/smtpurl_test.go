package mail_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

func TestParseSMTPURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]mail.SMTPServer{
		"smtp://mail.example.com":                       {Host: "mail.example.com", Port: 587},
		"smtp://mail.example.com/":                      {Host: "mail.example.com", Port: 587},
		"SMTP://mail.example.com:25":                    {Host: "mail.example.com", Port: 25},
		"smtps://mail.example.com":                      {Host: "mail.example.com", Port: 465, ImplicitTLS: true},
		"smtps://u:p@[2001:db8::1]:4465":                {Host: "2001:db8::1", Port: 4465, ImplicitTLS: true, Username: "u", Password: "p"},
		"smtp://u%40example.com:p%3A%2F%3F%23%25@m:587": {Host: "m", Port: 587, Username: "u@example.com", Password: "p:/?#%"},
		"smtp://u:p+w@m":                                {Host: "m", Port: 587, Username: "u", Password: "p+w"},
		"smtp://u:gr%C3%BCn@m":                          {Host: "m", Port: 587, Username: "u", Password: "grün"},
		"smtp://m?starttls=required":                    {Host: "m", Port: 587},
		"smtp://m?starttls=opportunistic":               {Host: "m", Port: 587, STARTTLS: mail.STARTTLSOpportunistic},
		"smtp://u:p@m?starttls=opportunistic":           {Host: "m", Port: 587, STARTTLS: mail.STARTTLSOpportunistic, Username: "u", Password: "p"},
		"smtp://mail_pit:1025?starttls=never":           {Host: "mail_pit", Port: 1025, STARTTLS: mail.STARTTLSNever},
		"smtp://u:p@localhost:1025?starttls=never":      {Host: "localhost", Port: 1025, STARTTLS: mail.STARTTLSNever, Username: "u", Password: "p"},
		"smtp://u:p@127.8.8.8?starttls=never":           {Host: "127.8.8.8", Port: 587, STARTTLS: mail.STARTTLSNever, Username: "u", Password: "p"},
		"smtp://m?starttls=never&smtputf8=never":        {Host: "m", Port: 587, STARTTLS: mail.STARTTLSNever, SMTPUTF8: mail.SMTPUTF8Never},
		"smtps://m?smtputf8=trusted":                    {Host: "m", Port: 465, ImplicitTLS: true, SMTPUTF8: mail.SMTPUTF8Trusted},
		"smtp://u:p@[::1]?starttls=never":               {Host: "::1", Port: 587, STARTTLS: mail.STARTTLSNever, Username: "u", Password: "p"},
	} {
		got, err := mail.ParseSMTPURL(raw)
		if err != nil || got != want {
			t.Errorf("%s: %#v %v, want %#v", raw, got, err, want)
		}
	}
}

func TestParseSMTPURLRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"",
		"mail.example.com:587",
		"http://mail.example.com",
		"smtp:mail.example.com",
		"smtp://",
		"smtp://:587",
		"smtp://m:0",
		"smtp://m:65536",
		"smtp://m:smtp",
		"smtp://m:587/path",
		"smtp://m#fragment",
		"smtp://ho st",
		"smtp://ho%20st",
		"smtp://m%0d%0a",
		"smtp://müller.example",
		"smtp://" + strings.Repeat("a", 254),
		"smtp://hunter22@m",
		"smtp://user:@m",
		"smtp://:hunter22@m",
		"smtp://@m",
		"smtp://user:hunter22%00@m",
		"smtp://user%0d%0aRSET:hunter22@m",
		"smtp://m?starttls=",
		"smtp://m?starttls=maybe",
		"smtp://m?smtputf8=",
		"smtp://m?smtputf8=always",
		"smtp://m?starttls=never&starttls=required",
		"smtp://m?tls=never",
		"smtp://m?starttls=never&x=hunter22",
		"smtp://m?a;b",
		"smtps://m?starttls=never",
		"smtp://user:hunter22@m?starttls=never",
		"smtp://user:hunter22@localhost.example.com?starttls=never",
		"smtp://user:hunter22@mail.localhost?starttls=never",
		// Passwords that should have been percent-encoded.
		"smtp://user:hunter22/secret@m",
		"smtp://user:hunter22?secret@m",
		"smtp://user:hunter22#secret@m",
		"smtp://user:hunter22%zz@m",
		"smtp://user:4711/hunter22@m",
		"smtp://user:hunter22 @m",
	} {
		got, err := mail.ParseSMTPURL(raw)
		if !errors.Is(err, mail.ErrSMTPURL) || got != (mail.SMTPServer{}) {
			t.Errorf("%q: %#v, %v", raw, got, err)
			continue
		}
		if strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%q: the error quotes the input: %v", raw, err)
		}
	}
}

func TestSMTPServerHidesCredentials(t *testing.T) {
	t.Parallel()
	s, err := mail.ParseSMTPURL("smtp://user:hunter22@127.0.0.1:25?starttls=never")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "server", s)
	for _, text := range []string{
		s.String(), log.String(),
		fmt.Sprintf("%v", s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s),
	} {
		if strings.Contains(text, "hunter22") || strings.Contains(text, "user") || !strings.Contains(text, "smtp://127.0.0.1:25") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestParseFrom(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"no-reply@example.com":                 "<no-reply@example.com>",
		"Latchkey <no-reply@example.com>":      `"Latchkey" <no-reply@example.com>`,
		`"Größe, Inc." <no-reply@example.com>`: "=?utf-8?b?R3LDtsOfZSwgSW5jLg==?= <no-reply@example.com>",
	} {
		got, err := mail.ParseFrom(from)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v %v, want %s", from, got, err, want)
		}
	}
	for _, from := range []string{
		"", "no-reply", "no-reply@", "@example.com", "a@b, c@d", "x <a@exämple.com>",
		"a@example.com\r\nBcc: b@example.com", "\"x\ny\" <a@example.com>", "a@[127.0.0.1]",
	} {
		if got, err := mail.ParseFrom(from); !errors.Is(err, mail.ErrFrom) {
			t.Errorf("%q: %v, %v", from, got, err)
		}
	}
}

func FuzzParseSMTPURL(f *testing.F) {
	for _, seed := range []string{
		"smtp://mail.example.com", "smtps://user:hunter22@mail.example.com:465", "smtp://[::1%25lo]:25",
		"smtp://u:p@127.0.0.1?starttls=never", "smtp://u:p%2f@h?starttls=opportunistic", "smtp://u:p/w@h", "smtp://%00:%0a@h",
		"smtps://h?smtputf8=trusted", "smtp://u@h?auth=xoauth2&smtputf8=never",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := mail.ParseSMTPURL(raw)
		if err != nil {
			// Every text is a constant of the parser: none has a part of the input.
			if !errors.Is(err, mail.ErrSMTPURL) || !constantText(err.Error()) {
				t.Fatalf("error %q", err)
			}
			return
		}
		if s.Host == "" || s.Port == 0 || (s.Username == "") != (s.Password == "" && !s.XOAUTH2) || s.XOAUTH2 && s.Password != "" {
			t.Fatalf("incomplete: host %q, port %d", s.Host, s.Port)
		}
		if strings.ContainsAny(s.Host+s.Username+s.Password, "\r\n\x00") {
			t.Fatal("control characters got through")
		}
		if s.ImplicitTLS && s.STARTTLS != mail.STARTTLSRequired {
			t.Fatal("STARTTLS with implicit TLS")
		}
		// If the URL is written and parsed again, it is the same server without its credentials.
		written := s.String()
		if s.XOAUTH2 { // not valid without a user name
			written = strings.Replace(written, "://", "://u@", 1)
		}
		again, err := mail.ParseSMTPURL(written)
		if err != nil {
			t.Fatalf("%s does not parse: %v", s, err)
		}
		again.Username, again.Password = s.Username, s.Password
		if again != s {
			t.Fatalf("%s became %s", s, again)
		}
	})
}

// constantText collects the errors for known inputs. There are no others.
func constantText(text string) bool {
	for _, raw := range []string{
		"smtp://u:p@h%zz", "x", "smtp://h/p", "smtp://", "smtp://h:0", "smtp://u@h", "smtp://u:%00@h",
		"smtp://h?%zz", "smtp://h?x=1", "smtps://h?starttls=never", "smtp://h?starttls=x", "smtp://u:p@h?starttls=never",
	} {
		if _, err := mail.ParseSMTPURL(raw); err != nil && err.Error() == text {
			return true
		}
	}
	return false
}
