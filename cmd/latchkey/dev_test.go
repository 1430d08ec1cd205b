package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// devFolder returns a folder that the servers of a root process can enter too.
func devFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "dev")
}

// devSettings also names the key of the operator's shell, which does not exist when dev starts for the first time.
func devSettings(dir string) []string {
	return []string{
		"LATCHKEY_ADMIN_KEY_FILE=" + filepath.Join(dir, "admin-key"),
		"LATCHKEY_DEV_DIR=" + dir, "LATCHKEY_GRPC_ADDR=127.0.0.1:0", "LATCHKEY_HTTP_ADDR=127.0.0.1:0", "LATCHKEY_OPS_ADDR=127.0.0.1:0",
	}
}

// TestDev uses an account on `latchkey dev`, including its mail, and finds all of it again after a restart.
func TestDev(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	p := start(t, devSettings(dir), "dev")
	addrs := p.addrs(t)
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"]))
	signUp := &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse battery", FirstName: "A", LastName: "B"}
	if _, err := auth.SignUp(t.Context(), signUp); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: "ada@example.com"}); err != nil {
		t.Fatal(err)
	}
	reset := mailedToken(t, addrs["http"])
	if page := get(t, http.DefaultClient, "http://"+addrs["http"]+"/dev/mailbox"); !strings.Contains(page, "ada@example.com") {
		t.Error("the mailbox page does not show the mail")
	}
	if page := get(t, http.DefaultClient, "http://"+addrs["http"]+"/account/reset?lang=%3Cscript%3E"); strings.Contains(page, "<script>") || !strings.Contains(page, "<h1") {
		t.Error("the page runs what is in its URL")
	}

	second := start(t, devSettings(dir), "dev")
	if code := second.exit(t); code != exitFailed {
		t.Errorf("a second dev on the same folder exits %d", code)
	}
	if text := second.text(&second.stderr); !strings.Contains(text, strconv.Itoa(p.cmd.Process.Pid)) || !strings.Contains(text, dir) {
		t.Errorf("it does not name the holder (%d): %s", p.cmd.Process.Pid, text)
	}

	asOperator := func(addr string) {
		t.Helper()
		var out bytes.Buffer
		key := "LATCHKEY_ADMIN_KEY_FILE=" + filepath.Join(dir, "admin-key")
		if err := run(t.Context(), []string{"admin", "user", "list", "--addr", addr}, []string{key}, &out); err != nil || !strings.Contains(out.String(), "ada@example.com") {
			t.Errorf("%v:\n%s", err, out.String())
		}
		service := "LATCHKEY_ADMIN_KEY_FILE=" + filepath.Join(dir, "service-key")
		if err := run(t.Context(), []string{"admin", "user", "list", "--addr", addr}, []string{service}, &out); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "KEY_INVALID") {
			t.Errorf("a service lists accounts: %v", err)
		}
	}
	asOperator(addrs["grpc"])
	if text := p.greeting(t); !strings.Contains(text, "LATCHKEY_ADMIN_KEY_FILE="+filepath.Join(dir, "admin-key")+" ") || !strings.Contains(text, " admin user list --addr "+addrs["grpc"]) {
		t.Errorf("nobody is told how to be the operator:\n%s", text)
	}

	p.signal(t, syscall.SIGINT)
	if code := p.exit(t); code != exitDone {
		t.Errorf("exit %d:\n%s", code, p.text(&p.stderr))
	}
	secretKey := filepath.Join(dir, "secret-key")
	if err := os.Rename(secretKey, secretKey+".kept"); err != nil {
		t.Fatal(err)
	}
	lost := start(t, devSettings(dir), "dev")
	if code, text := lost.exit(t), lost.text(&lost.stderr); code != exitFailed ||
		!strings.Contains(text, "put the former key back into "+secretKey+", or delete the folder "+dir) {
		t.Errorf("without the secret key: exit %d:\n%s", code, text)
	}
	if err := os.Rename(secretKey+".kept", secretKey); err != nil {
		t.Fatal(err)
	}
	// On the same address, since its URL is the issuer of the tokens.
	again := start(t, append(devSettings(dir), "LATCHKEY_HTTP_ADDR="+addrs["http"]), "dev")
	addrs = again.addrs(t)
	asOperator(addrs["grpc"])
	auth = latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"]))
	resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()})
	if err != nil || !resp.GetValid() {
		t.Errorf("after a restart: %v, %v", resp, err)
	}
	if testenv.HasRedis() { // the stand-in keeps no data, and says so
		if _, err := auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: login.GetTokens().GetRefreshToken()}); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	} else if text := again.text(&again.stderr); !strings.Contains(text, "no redis-server") || strings.Contains(text, "maxmemory-policy") {
		t.Errorf("does not say that sessions are not kept, or asks for a setting of the stand-in:\n%s", text)
	}
	if _, err := auth.ResetPassword(t.Context(), &latchkeyv1.ResetPasswordRequest{Token: reset, NewPassword: "another fine password"}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

type caughtMail struct{ To, Subject, Text, HTML, Time string }

func mailbox(t *testing.T, addr string) (mails []caughtMail) {
	t.Helper()
	if err := json.Unmarshal([]byte(get(t, http.DefaultClient, "http://"+addr+"/dev/mailbox.json")), &mails); err != nil {
		t.Fatal(err)
	}
	return mails
}

func mailedToken(t *testing.T, addr string) string {
	t.Helper()
	var found string
	testenv.Eventually(t, patience, "the mail is in the mailbox", func() bool {
		for _, mail := range mailbox(t, addr) { // another one is from the sign-up
			link := regexp.MustCompile(`http://localhost:\d+/account/reset#token=([\w-]+)`).FindStringSubmatch(mail.Text)
			if link != nil && mail.To == "ada@example.com" {
				found = link[1]
			}
		}
		return found != ""
	})
	return found
}

// TestDevDiesWhole: however dev is killed, its servers end with it, and the next start on the same data works at once.
func TestDevDiesWhole(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // only Linux ends children with their parent
	}
	dir := devFolder(t)
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGKILL}
	for i, sig := range signals {
		p := start(t, devSettings(dir), "dev")
		p.addrs(t)
		family := descendants(t, p.cmd.Process.Pid)
		if len(family) < 3 { // postgres and its own children
			t.Fatalf("children %v", family)
		}
		if i == len(signals)-1 { // even without the folder
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		p.signal(t, sig)
		p.exit(t)
		testenv.Eventually(t, patience, "no process is left after "+sig.String(), func() bool {
			return !slices.ContainsFunc(family, alive)
		})
	}
	start(t, devSettings(dir), "dev").addrs(t)
}

// TestDevEndsInOrderWithGoRun: the kernel signals the death of every thread of the go tool. Dev stops once, in good
// order.
func TestDevEndsInOrderWithGoRun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // only Linux signals the death of a parent
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	goTool := filepath.Join(t.TempDir(), "go")
	if out, err := exec.CommandContext(t.Context(), "cp", program, goTool).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := devFolder(t)
	p := startProgram(t, goTool, append(devSettings(dir), asGoTool+"=1"), "dev")
	p.addrs(t)
	p.signal(t, syscall.SIGKILL)
	p.exit(t) // when latchkey has ended too
	log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "fast shutdown request") || strings.Contains(string(log), "immediate shutdown request") {
		t.Errorf("PostgreSQL was not stopped in order:\n%s\n%s", log, p.text(&p.stderr))
	}
}

// TestDevEndsWithoutItsStores: dev ends if its database is gone, since it could not work without it.
func TestDevEndsWithoutItsStores(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // the test finds PostgreSQL in /proc
	}
	p := start(t, devSettings(devFolder(t)), "dev")
	p.addrs(t)
	for _, pid := range descendants(t, p.cmd.Process.Pid) {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.HasPrefix(string(name), "postgres") && parentOf(pid) == p.cmd.Process.Pid {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code, text := p.exit(t), p.text(&p.stderr); code != exitFailed || !strings.Contains(text, "PostgreSQL stopped by itself") || strings.Contains(text, "resign") {
		t.Errorf("exit %d:\n%s", code, p.text(&p.stderr))
	}
}

func descendants(t *testing.T, of int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for again := true; again; {
		again = false
		for _, entry := range entries {
			var pid int
			if _, err := fmt.Sscan(entry.Name(), &pid); err != nil || slices.Contains(found, pid) {
				continue
			}
			if parent := parentOf(pid); parent == of || slices.Contains(found, parent) {
				found, again = append(found, pid), true
			}
		}
	}
	return found
}

// parentOf reads the fourth field of /proc/PID/stat. The second field, in brackets, may contain any character.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	var state string
	var parent int
	_, _ = fmt.Sscan(string(stat[strings.LastIndex(string(stat), ")")+1:]), &state, &parent)
	return parent
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestDevHonoursSettings: dev uses the stores that the settings name, and starts none.
func TestDevHonoursSettings(t *testing.T) {
	t.Parallel()
	settings := append(devSettings(devFolder(t)),
		"LATCHKEY_DATABASE_URL="+testenv.EmptyDatabase(t), "LATCHKEY_REDIS_URL="+testenv.Redis(t), "LATCHKEY_REFLECTION=false",
		"LATCHKEY_SECRET_KEY=row0rScHLQXkSiKJHeL5tPQD0qdewcWxncClZlZjpUE=", "LATCHKEY_RESET_URL=https://app.example.com/r?a=b",
		"LATCHKEY_EMAIL_VERIFICATION=off") // the link is then in the only mail
	p := start(t, settings, "dev")
	addrs := p.addrs(t)
	if runtime.GOOS == "linux" {
		if family := descendants(t, p.cmd.Process.Pid); len(family) != 0 {
			t.Errorf("it started %v", family)
		}
	}
	// Nevertheless only one dev can use the folder.
	second := start(t, settings, "dev")
	if code := second.exit(t); code != exitFailed || !strings.Contains(second.text(&second.stderr), "LATCHKEY_DEV_DIR") {
		t.Errorf("a second dev on the same folder exits %d: %s", code, second.text(&second.stderr))
	}
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"]))
	signUp := &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse battery", FirstName: "A", LastName: "B"}
	if _, err := auth.SignUp(t.Context(), signUp); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: "ada@example.com"}); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the link is to the page that was set", func() bool {
		mails := mailbox(t, addrs["http"])
		return len(mails) == 1 && strings.Contains(mails[0].Text, "https://app.example.com/r?a=b&token=")
	})
}

func TestDevFolder(t *testing.T) {
	t.Parallel()
	environ := []string{"HOME=/home/ada"}
	want := "/home/ada/.local/share/latchkey-dev"
	if os.Geteuid() == 0 {
		want = "/var/lib/latchkey-dev" // the servers of root cannot enter /root
	}
	if got := defaultDevDir(environ); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	dir := t.TempDir()
	cfg := func() *config.Config { return &config.Config{} }
	first, second := cfg(), cfg()
	for _, c := range []*config.Config{first, second} {
		if err := devKeys(c, dir); err != nil {
			t.Fatal(err)
		}
	}
	if len(first.SecretKey) != 32 || string(first.SecretKey) != string(second.SecretKey) {
		t.Error("the secret key is not kept")
	}
	if len(first.AdminKeySHA256) != 1 || len(first.ServiceKeySHA256) != 1 || first.AdminKeySHA256[0] == first.ServiceKeySHA256[0] ||
		first.AdminKeySHA256[0] != second.AdminKeySHA256[0] || first.ServiceKeySHA256[0] != second.ServiceKeySHA256[0] {
		t.Error("the keys of operators and services are not kept")
	}
	for name, remedy := range map[string]string{
		"secret-key": "delete the folder " + dir + " ", "admin-key": "delete it to get a new one", "service-key": "delete it to get a new one",
	} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil || len(text) < 43 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		// A line break that an editor adds at the end does not change the key.
		if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		again := cfg()
		if err := devKeys(again, dir); err != nil || string(again.SecretKey) != string(first.SecretKey) ||
			again.AdminKeySHA256[0] != first.AdminKeySHA256[0] || again.ServiceKeySHA256[0] != first.ServiceKeySHA256[0] {
			t.Errorf("%s with a line break: %v", name, err)
		}
		if err := os.WriteFile(path, []byte("damaged \x01 file"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := devKeys(cfg(), dir); err == nil || !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: got %v", name, err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Keys from the settings are accepted beside those in the files.
	set := cfg()
	set.AdminKeySHA256 = config.KeyHashes{config.Key("set").Hash()}
	if err := devKeys(set, dir); err != nil || len(set.AdminKeySHA256) != 2 || set.AdminKeySHA256[0] != config.Key("set").Hash() {
		t.Errorf("%v, %v", set.AdminKeySHA256, err)
	}
}

// TestDevKeysOfRoot: root keeps the keys of another user's folder for that user, and follows no link there.
func TestDevKeysOfRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // others make only files of their own
	}
	const nobody = 65534
	dir := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.WriteFile(precious, []byte("kept"), 0o600), os.Symlink(precious, filepath.Join(dir, "secret-key.new"))); err != nil {
		t.Fatal(err)
	}
	if err := devKeys(&config.Config{}, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secret-key", "admin-key", "service-key"} {
		out, err := exec.CommandContext(t.Context(), "stat", "-c", "%u %g %a", filepath.Join(dir, name)).Output()
		if err != nil || string(out) != "65534 65534 600\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if text, err := os.ReadFile(precious); err != nil || string(text) != "kept" {
		t.Errorf("the link's target reads %q, %v", text, err)
	}
}

// TestNoTemporaryDirectory: only the environment says where it should be.
func TestNoTemporaryDirectory(t *testing.T) {
	t.Parallel()
	p := start(t, append(devSettings(devFolder(t)), "TMPDIR=/nonexistent"), "dev")
	if code := p.exit(t); code != exitFailed || !strings.Contains(p.text(&p.stderr), "TMPDIR") {
		t.Errorf("exit %d:\n%s", code, p.text(&p.stderr))
	}
}

// TestDevIssuer: on any port, a verifier that knows only dev's URL accepts its tokens. The URL is printed, with a line
// to try, and "/" is an index.
func TestDevIssuer(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	p := start(t, devSettings(dir), "dev")
	addrs := p.addrs(t)
	issuer := "http://" + addrs["http"]
	conn := testenv.Dial(t, addrs["grpc"])
	auth := latchkeyv1.NewAuthServiceClient(conn)
	verifyLogin(t, auth, conn, dir, authverify.Config{Issuer: issuer, Audience: "latchkey"})
	index := get(t, http.DefaultClient, issuer+"/")
	for name, text := range map[string]string{"greeting": p.greeting(t), "index": html.UnescapeString(index)} {
		for _, want := range []string{issuer, "latchkey", "/dev/mailbox", "/.well-known/jwks.json", "SignUp", `{issuer: "` + issuer + `", audience: "latchkey"}`} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s lacks %s:\n%s", name, want, text)
			}
		}
		wantNoSecret(t, dir, name, text)
	}
	for _, link := range regexp.MustCompile(`href="(/[^"]*)"`).FindAllStringSubmatch(index, -1) {
		get(t, http.DefaultClient, issuer+link[1])
	}
}

// TestDevKeepsTheIssuerThatIsSet: it is kept, wherever the keys are.
func TestDevKeepsTheIssuerThatIsSet(t *testing.T) {
	t.Parallel()
	dir := devFolder(t)
	p := start(t, append(devSettings(dir), "LATCHKEY_ISSUER=https://auth.example.com", "LATCHKEY_AUDIENCE=orders"), "dev")
	addrs := p.addrs(t)
	conn := testenv.Dial(t, addrs["grpc"])
	verifyLogin(t, latchkeyv1.NewAuthServiceClient(conn), conn, dir, authverify.Config{
		Issuer: "https://auth.example.com", Audience: "orders", JWKSURL: "http://" + addrs["http"] + "/.well-known/jwks.json",
	})
}

// TestDevWithTLS: the printed lines use TLS, trust the certificate and work.
func TestDevWithTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*x509.Certificate)
		host string
		more string
	}{
		"by address":        {func(*x509.Certificate) {}, "127.0.0.1", ""},
		"by localhost":      {func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"localhost"} }, "localhost", ""},
		"by another's name": {func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"*.example.com"} }, "127.0.0.1", "any.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := devFolder(t)
			certFile, keyFile := testcert.Write(t, t.TempDir(), "dev", c.edit)
			p := start(t, append(devSettings(dir), "LATCHKEY_TLS_CERT_FILE="+certFile, "LATCHKEY_TLS_KEY_FILE="+keyFile), "dev")
			addrs := p.addrs(t)
			_, httpPort, _ := strings.Cut(addrs["http"], ":")
			_, grpcPort, _ := strings.Cut(addrs["grpc"], ":")
			base, grpcAddr := "https://"+c.host+":"+httpPort, c.host+":"+grpcPort
			text := p.greeting(t)
			for _, want := range []string{
				"mails at " + base + "/dev/mailbox", "issuer " + base + ",", "-cacert " + certFile, "NODE_EXTRA_CA_CERTS=" + certFile,
				"admin user list --addr " + grpcAddr + " --ca " + certFile,
			} {
				if !strings.Contains(text, want) {
					t.Errorf("nothing says %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "-plaintext") || strings.Contains(text, "http://"+c.host+":"+httpPort) {
				t.Errorf("a line goes in plaintext:\n%s", text)
			}
			line := regexp.MustCompile(`(?m)admin user list (--addr .*)$`).FindStringSubmatch(text)
			if line == nil || !strings.HasSuffix(line[1], c.more) {
				t.Fatalf("the line of the operator: %q", line)
			}
			var out bytes.Buffer
			key := "LATCHKEY_ADMIN_KEY_FILE=" + filepath.Join(dir, "admin-key")
			if err := run(t.Context(), append([]string{"admin", "user", "list"}, strings.Fields(line[1])...), []string{key}, &out); err != nil {
				t.Errorf("%s: %v", line[0], err)
			}
			wantNoSecret(t, dir, "greeting", text)
		})
	}
}

// verifyLogin logs in and shows the access token to a verifier of another service.
func verifyLogin(t *testing.T, auth latchkeyv1.AuthServiceClient, conn *grpc.ClientConn, dir string, c authverify.Config) {
	t.Helper()
	if _, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse battery", FirstName: "A", LastName: "B"}); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "service-key"))
	if err != nil {
		t.Fatal(err)
	}
	c.Conn, c.ServiceKey, c.Logger = conn, strings.TrimSpace(string(key)), slog.New(slog.DiscardHandler)
	v, err := authverify.NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := v.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(ctx, login.GetTokens().GetAccessToken()); err != nil {
		t.Errorf("a verifier for %s: %v", c.Issuer, err)
	}
}

// wantNoSecret: dev's keys are in files of its folder, and nowhere else.
func wantNoSecret(t *testing.T, dir, name, text string) {
	t.Helper()
	for _, file := range []string{"admin-key", "service-key", "secret-key"} {
		secret, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, strings.TrimSpace(string(secret))) {
			t.Errorf("the %s has the content of %s", name, file)
		}
	}
}
