//go:build world

package world

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// nextServer is the server to which a relay passes its mails on. It keeps the MAIL and RCPT commands.
type nextServer struct {
	port string
	utf8 bool // offers SMTPUTF8

	mu   sync.Mutex
	said []string
}

func startNext(t *testing.T, utf8 bool) *nextServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	n := &nextServer{utf8: utf8}
	_, n.port, err = net.SplitHostPort(l.Addr().String())
	check(t, err)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.serve(conn)
		}
	}()
	return n
}

func (n *nextServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	say := func(line string) { _, _ = fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 next.example.com ESMTP")
	lines, content := bufio.NewScanner(conn), false
	for lines.Scan() {
		line := lines.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case content:
			if content = line != "."; !content {
				say("250 2.0.0 taken")
			}
		case verb == "EHLO":
			say("250-next.example.com")
			if n.utf8 {
				say("250-SMTPUTF8")
			}
			say("250 8BITMIME")
		case verb == "MAIL", verb == "RCPT":
			n.mu.Lock()
			n.said = append(n.said, line)
			n.mu.Unlock()
			say("250 2.1.0 ok")
		case verb == "DATA":
			content = true
			say("354 go on")
		case verb == "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// seen returns the commands of one mail, and drops them.
func (n *nextServer) seen(t *testing.T) string {
	t.Helper()
	var said []string
	testenv.Eventually(t, startTime, "Exim passes the mail on", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.said) < 2 {
			return false
		}
		said, n.said = n.said, nil
		return true
	})
	return strings.Join(said, ", ")
}

func (n *nextServer) quiet() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.said) == 0
}

// startExim runs Debian's Exim as a relay: it passes mails to example.net on to a server with SMTPUTF8, and all others
// to one without. Exim cannot be installed beside Postfix, so it runs from its unpacked package, with a user that
// exists only for libnss-wrapper.
func startExim(t *testing.T, plain, utf8 *nextServer) (addr, version string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("Exim starts as root only: run this test as root")
	}
	unpacked, version := unpack(t, "exim4-daemon-light")
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		check(t, os.Chmod(parent, 0o755)) // another user makes deliveries
	}
	const uid = 64998
	for _, name := range []string{"spool", "log"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		check(t, os.Chown(filepath.Join(dir, name), uid, uid))
	}
	port := freePort(t)
	passwd := writeFile(t, dir, "passwd", fmt.Sprintf("root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/false\nDebian-exim:x:%d:%d::/:/bin/false\n", uid, uid))
	group := writeFile(t, dir, "group", fmt.Sprintf("root:x:0:\nmail:x:8:\nDebian-exim:x:%d:\n", uid))
	check(t, os.Chmod(passwd, 0o644))
	check(t, os.Chmod(group, 0o644))
	config := writeFile(t, dir, "exim.conf", strings.NewReplacer("DIR", dir, "LISTEN", port, "UTF8", utf8.port, "PLAIN", plain.port).Replace(`
primary_hostname = relay.example.com
exim_user = Debian-exim
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = LISTEN
tls_advertise_hosts =
keep_environment =
deliver_drop_privilege = true
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin routers
onward:
  driver = manualroute
  route_list = example.net 127.0.0.1::UTF8 ; * 127.0.0.1::PLAIN
  self = send
  transport = out
begin transports
out:
  driver = smtp
`[1:]))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(unpacked, "usr/sbin/exim4"), "-C", config, "-bdf")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_PRELOAD=libnss_wrapper.so", "NSS_WRAPPER_PASSWD=" + passwd, "NSS_WRAPPER_GROUP=" + group}
	var log tail
	cmd.Stdout, cmd.Stderr = &log, &log
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			main, _ := os.ReadFile(filepath.Join(dir, "log", "mainlog"))
			t.Logf("Exim:\n%s\n%s", log.text(), main)
		}
	})
	addr = "127.0.0.1:" + port
	testenv.Eventually(t, startTime, "Exim listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr, version
}

// TestMailExim: a relay that offers SMTPUTF8, and rewrites addresses that it cannot pass on to those of other
// mailboxes. Latchkey sends it every mail except those.
func TestMailExim(t *testing.T) {
	t.Parallel()
	plain, utf8 := startNext(t, false), startNext(t, true)
	addr, version := startExim(t, plain, utf8)
	from := "LATCHKEY_MAIL_FROM=App <no-reply@app.example.com>"

	s := dev(t, "LATCHKEY_SMTP_URL=smtp://"+addr+"?starttls=never", from, "LATCHKEY_EMAIL_VERIFICATION=off", "LATCHKEY_RESET_URL=https://app.example.com/reset")
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.grpc))
	_, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "ada@example.org", Password: "correct horse battery", FirstName: "Ada", LastName: "L"})
	check(t, err)
	_, err = auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: "ada@example.org"})
	check(t, err)
	const sender = "MAIL FROM:<no-reply@app.example.com>"
	if got := plain.seen(t); got != sender+", RCPT TO:<ada@example.org>" {
		t.Errorf("a reset link went on as %s", got)
	}
	record("exim4-daemon-light", version, "mail: a reset link to ada@example.org", "passed on without SMTPUTF8")

	for _, tt := range []struct {
		to, query string
		next      *nextServer
		want      string // of the next server, or the text of the refusal
	}{
		{"ada@example.org", "", plain, sender + ", RCPT TO:<ada@example.org>"},
		{"ada@bücher.example", "", plain, sender + ", RCPT TO:<ada@xn--bcher-kva.example>"},
		{"jörg@example.org", "", nil, "recipient failed: the address is not ASCII before the @, which needs SMTPUTF8 (RFC 6531), and the server is Exim"},
		{"jörg@example.net", "", nil, "the server is Exim"},
		{"jörg@example.net", "&smtputf8=trusted", utf8, sender + " SMTPUTF8, RCPT TO:<jörg@example.net>"},
		{"jörg@example.net", "&smtputf8=never", nil, "smtputf8=never"},
		// This is why Exim is not trusted: the address is that of another mailbox.
		{"jörg@example.org", "&smtputf8=trusted", plain, sender + ", RCPT TO:<xn--jrg-sna@example.org>"},
	} {
		cmd := exec.CommandContext(t.Context(), binary(t), "mail", "test", tt.to)
		cmd.Env = []string{"LATCHKEY_SMTP_URL=smtp://" + addr + "?starttls=never" + tt.query, from}
		out, err := cmd.CombinedOutput()
		var seen string
		if tt.next == nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			seen = lines[len(lines)-1]
			if err == nil || !strings.Contains(seen, tt.want) {
				t.Errorf("%s%s: %v, %s: want a refusal that says %q", tt.to, tt.query, err, out, tt.want)
			}
		} else {
			if err != nil {
				t.Errorf("%s%s: %v: %s", tt.to, tt.query, err, out)
				continue
			}
			if seen = tt.next.seen(t); seen != tt.want {
				t.Errorf("%s%s went on as %s, want %s", tt.to, tt.query, seen, tt.want)
			}
		}
		name, _ := url.QueryUnescape(tt.to + strings.ReplaceAll(tt.query, "&", " with "))
		record("exim4-daemon-light", version, "latchkey mail test: "+name, seen)
	}
	if !plain.quiet() || !utf8.quiet() {
		t.Error("a mail that was refused went on")
	}
}

// unpack downloads a package of Debian that cannot be installed beside others, and returns the folder with its files.
// It installs the libraries that the package needs.
func unpack(t *testing.T, pkg string) (dir, version string) {
	t.Helper()
	dir = t.TempDir()
	debian(t, "libnss-wrapper") // also reads the lists of packages if there are none
	installing.Lock()
	commandIn(t, installTime, dir, nil, "apt-get", "-q", "-o", "Acquire::Retries=3", "download", pkg)
	installing.Unlock()
	files, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	check(t, err)
	if len(files) != 1 {
		t.Fatalf("apt-get download %s made %v", pkg, files)
	}
	command(t, installTime, nil, "dpkg-deb", "-x", files[0], dir)
	version = strings.TrimSpace(string(command(t, installTime, nil, "dpkg-deb", "-f", files[0], "Version")))
	var libraries []string
	for part := range strings.SplitSeq(string(command(t, installTime, nil, "dpkg-deb", "-f", files[0], "Depends")), ",") {
		if name := strings.Fields(part)[0]; strings.HasPrefix(name, "lib") {
			libraries = append(libraries, name)
		}
	}
	slices.Sort(libraries)
	debian(t, libraries...)
	return dir, version
}
