package main

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/hosts"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// devView is what dev shows to developers: addresses, folders and commands to try. It holds no secret, only
// the names of files that do.
type devView struct {
	GRPC string // host:port that clients dial
	HTTP string // URL without a slash at the end
	Ops  string // URL likewise
	Dir  string
	// Pages is the address of the account pages; "" if they are turned off.
	Pages string
	// Passkeys is the page that plays the part of an app's, at localhost; "" if passkeys are made for another domain.
	Passkeys string

	Issuer, Audience string
	Try              []string // lines for a shell
	Verify           string   // a line that checks an access token with another library

	// How clients trust the certificate; empty without TLS.
	certFile, serverName string
}

// newDevView finds out at which addresses clients reach the listeners.
func newDevView(cfg *config.Config, l *app.Listeners, dir string) (*devView, error) {
	v := &devView{GRPC: localAddr(l.GRPC.Addr().String()), Dir: dir, Ops: "http://" + localAddr(l.Ops.Addr().String())}
	pages := localAddr(l.HTTP.Addr().String())
	if cfg.TLSCertFile == "" {
		v.HTTP = "http://" + pages
		return v, nil
	}
	chain, err := readCertificates(cfg.TLSCertFile)
	if err != nil {
		return nil, config.Reject("LATCHKEY_TLS_CERT_FILE", "cannot be used ("+err.Error()+")")
	}
	if v.certFile, err = filepath.Abs(cfg.TLSCertFile); err != nil {
		return nil, fmt.Errorf("LATCHKEY_TLS_CERT_FILE: %w", err)
	}
	own := chain[0]
	// Certificates for development more often name localhost than 127.0.0.1.
	named := func(addr string) string {
		host, port, err := net.SplitHostPort(addr)
		if err == nil && hosts.IsLoopback(host) && own.VerifyHostname(host) != nil && own.VerifyHostname("localhost") == nil {
			return net.JoinHostPort("localhost", port)
		}
		return addr
	}
	v.GRPC, v.HTTP = named(v.GRPC), "https://"+named(pages)
	host, _, err := net.SplitHostPort(v.GRPC)
	if err == nil && own.VerifyHostname(host) != nil && len(own.DNSNames) > 0 {
		v.serverName = strings.Replace(own.DNSNames[0], "*", "any", 1)
	}
	return v, nil
}

// complete adds the fields that depend on the complete settings. program is the name by which this process was started.
func (v *devView) complete(cfg *config.Config, program string) {
	v.Issuer, v.Audience = cfg.Issuer, cfg.Audience
	if strings.Contains(program, "go-build") {
		program = "go run ./cmd/latchkey" // `go run` deletes the program that it built
	}
	grpcurl := "go tool -modfile=tools/go.mod grpcurl"
	if _, err := exec.LookPath("grpcurl"); err == nil {
		grpcurl = "grpcurl"
	}
	trust, adminTrust, nodeTrust := " -plaintext", "", ""
	if v.certFile != "" {
		trust = " -cacert " + shellQuote(v.certFile)
		adminTrust = " --ca " + shellQuote(v.certFile)
		nodeTrust = "NODE_EXTRA_CA_CERTS=" + shellQuote(v.certFile) + " "
	}
	if v.serverName != "" {
		trust += " -servername " + v.serverName
		adminTrust += " --server-name " + v.serverName
	}
	call := func(method, body string) string {
		return fmt.Sprintf("%s%s -d '%s' %s latchkey.v1.AuthService/%s", grpcurl, trust, body, v.GRPC, method)
	}
	v.Try = []string{
		call("SignUp", `{"email":"ada@example.com","password":"correct horse battery","first_name":"Ada","last_name":"Lovelace"}`),
		call("Login", `{"email":"ada@example.com","password":"correct horse battery","device_name":"my laptop"}`),
		call("ForgotPassword", `{"email":"ada@example.com"}`),
		fmt.Sprintf("LATCHKEY_ADMIN_KEY_FILE=%s %s admin user list --addr %s%s", shellQuote(filepath.Join(v.Dir, adminKeyFile)), program, v.GRPC, adminTrust),
		fmt.Sprintf("LATCHKEY_DATABASE_URL='%s' LATCHKEY_SECRET_KEY_FILE=%s %s keys list",
			cfg.DatabaseURL.Redacted(), shellQuote(filepath.Join(v.Dir, secretKeyFile)), program),
	}
	text := func(s string) string {
		quoted, _ := json.Marshal(s) // never fails for a string
		return string(quoted)
	}
	v.Verify = fmt.Sprintf(`(cd "$(mktemp -d)" && npm install --silent jose@6 && %snode -e %s ACCESS_TOKEN)`, nodeTrust, shellQuote(fmt.Sprintf(
		`import("jose").then(j => j.jwtVerify(process.argv[1], j.createRemoteJWKSet(new URL(%s)), {issuer: %s, audience: %s})).then(r => console.log(r.payload))`,
		text(v.HTTP+"/.well-known/jwks.json"), text(v.Issuer), text(v.Audience))))
}

// shellQuote quotes text for a shell. Plain words stay as they are.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// greeting is the text for a person at a terminal. Scripts read the ready line.
func (v *devView) greeting() string {
	passkeys := ""
	if v.Pages != "" {
		passkeys = "Account pages: sign up at " + v.Pages + "signup, log in at " + v.Pages + "login\n"
	}
	if v.Passkeys != "" {
		passkeys += "Passkeys: for localhost, made and used at " + v.Passkeys +
			" (not at 127.0.0.1: browsers have none for IP addresses).\n  For a page of your own set LATCHKEY_PASSKEY_RP_ID=localhost and LATCHKEY_PASSKEY_ORIGINS=http://localhost:PORT\n"
	}
	return fmt.Sprintf("\nLatchkey for development: gRPC on %s, pages at %s/, mails at %s/dev/mailbox, metrics at %s/metrics, data in %s\n"+passkeys+
		"Tokens: issuer %s, audience %s, keys at %s/.well-known/jwks.json\nTry:\n  %s\nCheck a token as another service does (ACCESS_TOKEN is from Login):\n  %s\n\n",
		v.GRPC, v.HTTP, v.HTTP, v.Ops, v.Dir, v.Issuer, v.Audience, v.HTTP, strings.Join(v.Try, "\n  "), v.Verify)
}

func devPages(pages http.Handler, mailbox *mail.Mailbox, view *devView) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.HandleFunc("GET /{$}", view.serveIndex)
	mux.HandleFunc("GET /dev/mailbox", mailbox.Page)
	mux.HandleFunc("GET /dev/mailbox.json", mailbox.JSON)
	for _, page := range scriptedPages() {
		page.register(mux)
	}
	for path, page := range linkPages() {
		mux.HandleFunc("GET "+path, page.serve)
	}
	return mux
}

// indexPage is the page at / of the HTTP listener.
//
//nolint:gochecknoglobals // parsed once, never changed
var indexPage = template.Must(template.New("index").Parse(`<!doctype html> <html lang="en"> <meta charset="utf-8">
<title>Latchkey for development</title>
<body style="font-family: system-ui; max-width: 60em; margin: 2em auto">
<h1>Latchkey for development</h1>
<ul>
{{with .Pages}}<li><a href="{{.}}signup">Sign up</a>, <a href="{{.}}login">log in</a>, <a href="{{.}}security">look after an account</a>
{{end}}<li><a href="/dev/mailbox">Mails that were caught</a>, <a href="/dev/mailbox.json">as JSON</a>
<li><a href="/dev/api">Calls with JSON</a>, <a href="/openapi.json">as OpenAPI 3.1</a>
{{with .Passkeys}}<li><a href="{{.}}">Make and use passkeys</a>, for localhost: browsers have none for IP addresses
{{end}}<li><a href="/.well-known/jwks.json">Keys</a> that check access tokens of the issuer <code>{{.Issuer}}</code> for the audience <code>{{.Audience}}</code>; <a href="/.well-known/openid-configuration">discovery</a>
<li><a href="/healthz">Does it live</a>, <a href="/readyz">is it ready</a>, <a href="{{.Ops}}/metrics">metrics</a>, <a href="{{.Ops}}/">the page for operators</a>
<li>gRPC on <code>{{.GRPC}}</code>, data in <code>{{.Dir}}</code>
</ul>
<h2>Try</h2>
{{range .Try}}<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{{.}}</pre>
{{end}}<h2>Check a token as another service does</h2>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{{.Verify}}</pre>
`))

func (v *devView) serveIndex(w http.ResponseWriter, _ *http.Request) {
	pageHeaders(w)
	_ = indexPage.Execute(w, v)
}

func pageHeaders(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
}

// linkPage takes the place of an app's page that mailed links open.
type linkPage struct{ Title, Setting, Method, Undo, Token string }

func linkPages() map[string]linkPage {
	return map[string]linkPage{
		"/dev/reset":  {Title: "Reset a password", Setting: "LATCHKEY_RESET_URL", Method: "ResetPassword"},
		"/dev/verify": {Title: "Prove an address", Setting: "LATCHKEY_VERIFY_URL", Method: "VerifyEmail"},
		"/dev/email-change": {
			Title: "Change an address", Setting: "LATCHKEY_EMAIL_CHANGE_URL", Method: "ConfirmEmailChange", Undo: "UndoEmailChange",
		},
	}
}

//nolint:gochecknoglobals // parsed once, never changed
var linkTemplate = template.Must(template.New("link").Parse(`<!doctype html> <html lang="en"> <meta charset="utf-8">
<title>{{.Title}}</title>
<body style="font-family: system-ui; max-width: 50em; margin: 2em auto">
<h1>{{.Title}}</h1>
<p>Your app's page goes here: set <code>{{.Setting}}</code> to it. It calls {{.Method}} with this token:</p>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{{.Token}}</pre>
`))

func (p linkPage) serve(w http.ResponseWriter, r *http.Request) {
	pageHeaders(w)
	p.Token = r.URL.Query().Get("token")
	if p.Undo != "" && r.URL.Query().Has("undo") {
		p.Method = p.Undo
	}
	_ = linkTemplate.Execute(w, p)
}
