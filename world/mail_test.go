//go:build world

package world

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"mime/quotedprintable"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// postfix is a running Postfix that uses nothing of this machine's own: a relay that accepts mails only with STARTTLS,
// one that speaks TLS from the first byte, one with STARTTLS and without SMTPUTF8, and one for each kind of login,
// which accepts mails from nobody else. It delivers to folders.
type postfix struct {
	version                 string
	starttls, smtps, noUTF8 string            // host:port
	logins                  map[string]string // host:port by mechanism
	ca                      string            // file of the authority
	mails                   string
	log                     string
}

// mailboxes are the addresses that it accepts, and their folders.
var mailboxes = [][2]string{
	{"ada@example.org", "ada"}, {"jörg@example.org", "joerg"}, {"ada@xn--bcher-kva.example", "ada-buecher"}, {"busy@example.org", "busy"},
}

func startPostfix(t *testing.T) *postfix {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("Postfix starts as root only: run this test as root")
	}
	p := &postfix{version: debian(t, "postfix", "sasl2-bin", "libsasl2-modules")[0], logins: map[string]string{}}
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		check(t, os.Chmod(parent, 0o755)) // its processes run as other users
	}
	owner, err := user.Lookup("postfix")
	check(t, err)
	uid, err := strconv.Atoi(owner.Uid)
	check(t, err)
	gid, err := strconv.Atoi(owner.Gid)
	check(t, err)
	for _, name := range []string{"config", "queue", "data", "mails"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	for _, name := range []string{"data", "mails"} {
		check(t, os.Chown(filepath.Join(dir, name), uid, gid))
	}
	p.mails, p.log, p.ca = filepath.Join(dir, "mails"), filepath.Join(dir, "log"), filepath.Join(dir, "ca.pem")
	writeCertificates(t, p.ca, filepath.Join(dir, "server.pem"))
	var table strings.Builder
	for _, box := range mailboxes {
		fmt.Fprintf(&table, "%s %s/\n", box[0], box[1])
	}
	config := filepath.Join(dir, "config")
	check(t, os.WriteFile(filepath.Join(dir, "mailboxes"), []byte(table.String()), 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "refused"), []byte("busy@example.org 552 5.2.2 the mailbox is full\n"), 0o644))
	check(t, os.WriteFile(filepath.Join(config, "main.cf"), []byte(strings.ReplaceAll(`
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = DIR/log
maillog_file_prefixes = DIR
myhostname = mail.example.com
mydestination =
mynetworks_style = host
mynetworks =
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access texthash:DIR/refused
smtpd_tls_chain_files = DIR/server.pem
smtpd_tls_security_level = encrypt
virtual_mailbox_domains = example.org, xn--bcher-kva.example
virtual_mailbox_base = DIR/mails
virtual_mailbox_maps = texthash:DIR/mailboxes
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
virtual_minimum_uid = 1
`[1:], "DIR", dir)), 0o644))
	main, err := os.ReadFile(filepath.Join(config, "main.cf"))
	check(t, err)
	main = bytes.ReplaceAll(bytes.ReplaceAll(main, []byte("static:UID"), []byte("static:"+owner.Uid)), []byte("static:GID"), []byte("static:"+owner.Gid))
	check(t, os.WriteFile(filepath.Join(config, "main.cf"), main, 0o644))
	p.starttls, p.smtps, p.noUTF8 = "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	check(t, os.WriteFile(filepath.Join(config, "master.cf"), fmt.Appendf(nil, `
%s inet n - n - - smtpd
%s inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
%s inet n - n - - smtpd -o smtputf8_enable=no
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`, p.starttls, p.smtps, p.noUTF8), 0o644))
	p.takeLogins(t, dir, owner)
	command(t, startTime, nil, "postfix", "-c", config, "check") // creates the queue's folders
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/usr/lib/postfix/sbin/master", "-c", config)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(p.log)
			t.Logf("Postfix:\n%s", log)
		}
	})
	testenv.Eventually(t, startTime, "Postfix listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.starttls)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

const (
	mailUser     = "latchkey@mail.example.com"
	mailPassword = "a secret: with @ and %"
)

// takeLogins adds a listener for each mechanism, with a user in Cyrus SASL's own database.
func (p *postfix) takeLogins(t *testing.T, dir string, owner *user.User) {
	t.Helper()
	// Debian's Postfix read this folder, beside main.cf, even if cyrus_sasl_config_path named another one.
	sasl, database := filepath.Join(dir, "config", "sasl"), filepath.Join(dir, "sasldb2")
	check(t, os.Mkdir(sasl, 0o755))
	name, realm, _ := strings.Cut(mailUser, "@")
	command(t, startTime, []byte(mailPassword), "saslpasswd2", "-p", "-c", "-f", database, "-u", realm, name)
	uid, err := strconv.Atoi(owner.Uid)
	check(t, err)
	check(t, os.Chown(database, uid, 0))
	main, err := os.OpenFile(filepath.Join(dir, "config", "main.cf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = fmt.Fprintf(main, "cyrus_sasl_config_path = %s\nsmtpd_sasl_local_domain = %s\nsmtpd_tls_auth_only = yes\n", sasl, realm)
	check(t, err)
	check(t, main.Close())
	master, err := os.OpenFile(filepath.Join(dir, "config", "master.cf"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	for _, mechanism := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"} {
		p.logins[mechanism] = "127.0.0.1:" + freePort(t)
		check(t, os.WriteFile(filepath.Join(sasl, mechanism+".conf"), fmt.Appendf(nil,
			"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s\nmech_list: %s\n", database, mechanism), 0o644))
		_, err := fmt.Fprintf(master, "%s inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_path=%s "+
			"-o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n", p.logins[mechanism], mechanism)
		check(t, err)
	}
	check(t, master.Close())
}

// writeCertificates makes an authority, and a certificate that it signed for 127.0.0.1.
func writeCertificates(t *testing.T, ca, server string) {
	t.Helper()
	make509 := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		if signer == nil {
			parent, signer = template, key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		check(t, err)
		cert, err := x509.ParseCertificate(der)
		check(t, err)
		return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	authority, signer, text := make509(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of the test's own"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	check(t, os.WriteFile(ca, text, 0o644))
	_, key, text := make509(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mail.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, authority, signer)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(server, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), text...), 0o600))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// arrived waits for the newest mail of a folder and returns it decoded.
func (p *postfix) arrived(t *testing.T, folder string, n int) string {
	t.Helper()
	var files []string
	testenv.Eventually(t, startTime, "the mail is delivered", func() bool {
		files, _ = filepath.Glob(filepath.Join(p.mails, folder, "new", "*"))
		return len(files) == n
	})
	var newest []byte
	var when time.Time
	for _, file := range files {
		info, err := os.Stat(file)
		check(t, err)
		if content, err := os.ReadFile(file); err == nil && info.ModTime().After(when) {
			newest, when = content, info.ModTime()
		}
	}
	decoded := make([]byte, 2*len(newest))
	read, _ := quotedprintable.NewReader(bytes.NewReader(newest)).Read(decoded) // headers are no quoted-printable, and pass all the same
	return string(newest) + "\n" + string(decoded[:read])
}

// TestMailPostfix: reset links through a real mail server, and the results of its refusals.
func TestMailPostfix(t *testing.T) {
	t.Parallel()
	p := startPostfix(t)
	from, ca := "LATCHKEY_MAIL_FROM=Tea & Cake <no-reply@app.example.com>", "LATCHKEY_SMTP_CA_FILE="+p.ca
	reset := "LATCHKEY_RESET_URL=https://app.example.com/reset"
	s := dev(t, "LATCHKEY_SMTP_URL=smtp://"+p.starttls, from, ca, reset, "LATCHKEY_EMAIL_VERIFICATION=off", "LATCHKEY_PRODUCT_NAME=Tea & Cake")
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.grpc))

	// Only STARTTLS, an authority of our own, and all kinds of addresses: each link sets a password.
	for _, tt := range []struct{ typed, folder, envelope, seen string }{
		{"ada@example.org", "ada", "ada@example.org", "ASCII address, without SMTPUTF8"},
		{"ada@bücher.example", "ada-buecher", "ada@xn--bcher-kva.example", "domain as A-labels, without SMTPUTF8"},
		{"jörg@example.org", "joerg", "jörg@example.org", "SMTPUTF8 asked for, the local part is untouched"},
	} {
		_, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: tt.typed, Password: "correct horse battery", FirstName: "Ada", LastName: "L"})
		check(t, err)
		_, err = auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: tt.typed + " "})
		check(t, err)
		got := p.arrived(t, tt.folder, 1)
		if !strings.Contains(got, "X-Original-To: "+tt.envelope) && !strings.Contains(got, "Delivered-To: "+tt.envelope) {
			t.Errorf("%s: %s", tt.typed, got)
		}
		link := regexp.MustCompile(`https://app\.example\.com/reset\?token=[\w%.-]+`).FindString(strings.ReplaceAll(strings.ReplaceAll(got, "=\r\n", ""), "=\n", ""))
		link = strings.ReplaceAll(link, "token=3D", "token=")
		page, err := url.Parse(link)
		check(t, err)
		_, err = auth.ResetPassword(t.Context(), &latchkeyv1.ResetPasswordRequest{Token: page.Query().Get("token"), NewPassword: "another horse battery"})
		if err != nil {
			t.Errorf("%s: %q: %v\n%s", tt.typed, link, err, got)
		}
		record("postfix", p.version, "mail: a reset link to "+tt.typed+" under STARTTLS only", tt.seen)
	}

	for _, tt := range []struct {
		name, url, to string
		environ       []string
		want          []string
		refused       bool
	}{
		{"STARTTLS", "smtp://" + p.starttls, "ada@example.org", []string{ca}, []string{"encrypted with TLS 1.3", "accepted: Ok: queued as"}, false},
		{"TLS from the first byte", "smtps://" + p.smtps, "ada@example.org", []string{ca}, []string{"encrypted with TLS 1.3", "accepted: Ok: queued as"}, false},
		{"no SMTPUTF8, domain not ASCII", "smtp://" + p.noUTF8, "ada@bücher.example", []string{ca}, []string{"accepted: Ok"}, false},
		{"no SMTPUTF8, local part not ASCII", "smtp://" + p.noUTF8, "jörg@example.org", []string{ca}, []string{"needs SMTPUTF8", "does not offer"}, true},
		{"an authority that is not known", "smtp://" + p.starttls, "ada@example.org", nil, []string{"signed by nobody known here", "LATCHKEY_SMTP_CA_FILE"}, true},
		{"plaintext where STARTTLS is demanded", "smtp://" + p.starttls + "?starttls=never", "ada@example.org", nil, []string{"530 5.7.0: Must issue a STARTTLS command first"}, true},
		{"smtps:// to a port of STARTTLS", "smtps://" + p.starttls, "ada@example.org", []string{ca}, []string{"write smtp://"}, true},
		{"an unknown user", "smtp://" + p.starttls, "nobody@example.org", []string{ca}, []string{"550 5.1.1: (address) Recipient address rejected: User unknown in virtual mailbox table"}, true},
		{"a full mailbox", "smtp://" + p.starttls, "busy@example.org", []string{ca}, []string{"552 5.2.2: (address) Recipient address rejected: the mailbox is full"}, true},
		{"relaying denied", "smtp://" + p.starttls, "ada@example.net", []string{ca}, []string{"554 5.7.1: (address) Relay access denied"}, true},
		{"a login that is not offered", "smtp://user:secret@" + p.starttls, "ada@example.org", []string{ca}, []string{"login failed", "no login"}, true},
	} {
		cmd := exec.CommandContext(t.Context(), binary(t), "mail", "test", tt.to)
		cmd.Env = append([]string{"LATCHKEY_SMTP_URL=" + tt.url, from}, tt.environ...)
		out, err := cmd.CombinedOutput()
		if (err != nil) != tt.refused {
			t.Errorf("%s: %v: %s", tt.name, err, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: %q is missing in %s", tt.name, want, out)
			}
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		said := lines[len(lines)-1]
		if !tt.refused {
			said = "accepted"
		}
		record("postfix", p.version, "latchkey mail test: "+tt.name, said)
	}
	p.testLogins(t, from, ca)
	log, err := os.ReadFile(p.log)
	check(t, err)
	if n := strings.Count(string(log), "status=bounced"); n != 0 {
		t.Errorf("%d mails bounced", n)
	}
}

// testLogins: each kind of login succeeds if the server offers it alone, a wrong password is reported as such, and no
// output contains a password.
func (p *postfix) testLogins(t *testing.T, environ ...string) {
	t.Helper()
	for mechanism, addr := range p.logins {
		for _, tt := range []struct {
			name     string
			user     *url.Userinfo
			want     []string
			accepted bool
		}{
			{"the right password", url.UserPassword(mailUser, mailPassword), []string{"logged in", "accepted: Ok: queued as"}, true},
			{"a wrong password", url.UserPassword(mailUser, "not "+mailPassword), []string{"login failed", "535 5.7.8"}, false},
			{"no login", nil, []string{"recipient failed", "Recipient address rejected: Access denied"}, false},
		} {
			cmd := exec.CommandContext(t.Context(), binary(t), "mail", "test", "ada@example.org")
			cmd.Env = append([]string{"LATCHKEY_SMTP_URL=" + (&url.URL{Scheme: "smtp", Host: addr, User: tt.user}).String()}, environ...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.accepted {
				t.Errorf("%s, %s: %v: %s", mechanism, tt.name, err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("%s, %s: %q is missing in %s", mechanism, tt.name, want, out)
				}
			}
			if strings.Contains(string(out), "secret") {
				t.Errorf("%s, %s: the output has the password: %s", mechanism, tt.name, out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			said := lines[len(lines)-1]
			if tt.accepted {
				said = "logged in, accepted"
				if log, err := os.ReadFile(p.log); err != nil || !strings.Contains(string(log), "sasl_method="+mechanism+", sasl_username="+mailUser) {
					t.Errorf("%s: Postfix saw another login (%v)", mechanism, err)
				}
			}
			record("postfix", p.version, "login with "+mechanism+": "+tt.name, said)
		}
	}
}
