package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
)

// startRelay starts a mail server in plaintext that accepts every mail for @example.org, and returns a channel of the
// mails.
func startRelay(t *testing.T) (addr string, taken <-chan string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	mails := make(chan string, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(conn, mails)
		}
	}()
	return listener.Addr().String(), mails
}

func relay(conn net.Conn, mails chan<- string) {
	defer conn.Close() //nolint:errcheck // a test's
	in := bufio.NewReader(conn)
	say := func(text string) { _, _ = fmt.Fprintf(conn, "%s\r\n", text) }
	say("220 relay.test ESMTP")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case verb == "RCPT" && !strings.Contains(line, "@example.org>"):
			say("550 5.7.1 " + strings.Fields(line)[1] + " relaying denied")
		case verb == "DATA":
			say("354 go on")
			var content strings.Builder
			for line != ".\r\n" && err == nil {
				line, err = in.ReadString('\n')
				content.WriteString(line)
			}
			mails <- content.String()
			say("250 2.0.0 Ok: queued as 4F3C12A0B")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// TestMailTest: the command reports the server's answer, in words and with its exit code.
func TestMailTest(t *testing.T) {
	t.Parallel()
	addr, taken := startRelay(t)
	environ := []string{"LATCHKEY_SMTP_URL=smtp://" + addr + "?starttls=never", "LATCHKEY_RESET_URL=https://app.example.com/reset", "LATCHKEY_PRODUCT_NAME=Tea & Cake"}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"mail", "test", "ada@example.org"}, environ, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"connected to " + addr, "not encrypted", "accepted: Ok: queued as 4F3C12A0B", "sent to ada@example.org"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %s", want, out.String())
		}
	}
	if got := <-taken; !strings.Contains(got, "Subject: A test of the mails of Tea & Cake") || !strings.Contains(got, "<no-reply@app.example.com>") {
		t.Errorf("sent: %s", got)
	}

	for name, tt := range map[string]struct {
		args, environ []string
		code          int
		want          string
	}{
		"refused":        {[]string{"test", "ada@example.com"}, environ, exitFailed, "server replied 550 5.7.1: (address) relaying denied"},
		"no address":     {[]string{"test"}, environ, exitUsage, "usage"},
		"no server":      {[]string{"test", "a@example.org"}, environ[1:], exitUsage, "LATCHKEY_SMTP_URL"},
		"no sender":      {[]string{"test", "a@example.org"}, environ[:1], exitUsage, "LATCHKEY_MAIL_FROM"},
		"no such CA":     {[]string{"test", "a@example.org"}, append([]string{"LATCHKEY_SMTP_CA_FILE=/nonexistent"}, environ...), exitUsage, "LATCHKEY_SMTP_CA_FILE"},
		"a wrong sender": {[]string{"test", "a@example.org"}, append([]string{"LATCHKEY_MAIL_FROM=me"}, environ...), exitUsage, "LATCHKEY_MAIL_FROM"},
		"two-line name":  {[]string{"test", "a@example.org"}, append(environ[:2:2], "LATCHKEY_PRODUCT_NAME=a\nb"), exitUsage, "LATCHKEY_PRODUCT_NAME"},
	} {
		err := run(t.Context(), append([]string{"mail"}, tt.args...), tt.environ, &out)
		if exitCode(err) != tt.code || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: exit %d, %v", name, exitCode(err), err)
		}
	}
}

// TestInsecureLinks: serve refuses them until the operator allows them, and then warns of them.
func TestInsecureLinks(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"myapp://reset", "http://192.168.1.7/reset"} {
		environ := []string{"LATCHKEY_RESET_URL=" + page}
		if err := run(t.Context(), []string{"config"}, environ, &bytes.Buffer{}); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "LATCHKEY_INSECURE_LINKS=true") {
			t.Errorf("%s: %v", page, err)
		}
		var out bytes.Buffer
		_ = run(t.Context(), []string{"config"}, append(environ, "LATCHKEY_INSECURE_LINKS=true"), &out)
		if !strings.Contains(out.String(), "warning: LATCHKEY_RESET_URL ") {
			t.Errorf("%s: %s", page, out.String())
		}
	}
}

// TestTemplatesAreJudged: the command reports a folder of templates that serve could not use.
func TestTemplatesAreJudged(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"serve"}, []string{"LATCHKEY_MAIL_TEMPLATES=/nonexistent"}, &bytes.Buffer{})
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "LATCHKEY_MAIL_TEMPLATES is not usable") {
		t.Errorf("%v", err)
	}
}
