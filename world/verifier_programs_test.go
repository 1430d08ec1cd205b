//go:build world

package world

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// ask runs each program for the cases of its packages.
func ask(t *testing.T, all []verifier, asked []verification, issuers []issuer) []verdict {
	t.Helper()
	var packages []string
	for _, v := range all {
		if v.source == "npm" {
			packages = append(append(packages, v.name+"@"+v.version), v.with...)
		}
	}
	slices.Sort(packages)
	dir := npm(t, slices.Compact(packages)...)
	script, err := os.ReadFile("verifiers/node.mjs")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "node.mjs"), script, 0o644))
	// These programs read all of their cases at once, as JSON.
	programs := map[string]func(cases []byte) []byte{
		"node": func(cases []byte) []byte { return commandIn(t, verifierTime, dir, cases, node(t), "node.mjs") },
		"python": func(cases []byte) []byte {
			return command(t, verifierTime, cases, "/usr/bin/python3", "verifiers/python.py")
		},
		"ruby": func(cases []byte) []byte {
			return command(t, verifierTime, cases, "/usr/bin/ruby", "verifiers/ruby.rb")
		},
		"perl": func(cases []byte) []byte {
			return command(t, verifierTime, cases, "/usr/bin/perl", "verifiers/perl.pl")
		},
		"erlang": func(cases []byte) []byte {
			return command(t, verifierTime, cases, "/usr/bin/escript", "verifiers/erlang.escript")
		},
		"go": func(cases []byte) []byte { return commandIn(t, verifierTime, "verifiers/go", cases, "go", "run", ".") },
	}
	places := map[string][]int{}
	for i, c := range asked {
		places[c.Program] = append(places[c.Program], i)
	}
	verdicts := make([]verdict, len(asked))
	for program, places := range places {
		cases := make([]verification, len(places))
		for i, place := range places {
			cases[i] = asked[place]
		}
		var answers []verdict
		if run := programs[program]; run != nil {
			text, err := json.Marshal(cases)
			check(t, err)
			check(t, json.Unmarshal(run(text), &answers))
		} else if gate, ok := gateways()[program]; ok {
			answers = gate.answers(t, cases)
		} else {
			answers = handed(t, program, cases, issuers)
		}
		if len(answers) != len(cases) {
			t.Fatalf("%s: %d answers to %d cases", program, len(answers), len(cases))
		}
		for i, answer := range answers {
			if answer.Name != cases[i].Name {
				t.Fatalf("%s answers for %s, asked about %s", program, answer.Name, cases[i].Name)
			}
			verdicts[places[i]] = answer
		}
	}
	return verdicts
}

// programOf returns the program that runs a package: a script for a language, or the package itself.
func programOf(v verifier) string {
	if v.source == "npm" {
		return "node"
	}
	for prefix, program := range map[string]string{
		"github.com/": "go", "python3-": "python", "ruby-": "ruby", "libcrypt-jwt-perl": "perl", "libmojo-jwt-perl": "perl", "erlang-": "erlang",
	} {
		if strings.HasPrefix(v.name, prefix) {
			return program
		}
	}
	return v.name
}

// handedProgram checks one token with a key on standard input. The token and its expected claims are its arguments.
type handedProgram struct {
	compile []string // the command that builds it, without "-o PROGRAM"; nil: it is a script
	script  string
	pem     bool // the key in PEM, not the JWKS
}

func handedPrograms() map[string]handedProgram {
	return map[string]handedProgram{
		"libjwt-dev":   {compile: []string{"gcc", "-Wall", "-Werror", "verifiers/libjwt.c", "-ljwt"}, pem: true},
		"libcjose-dev": {compile: []string{"gcc", "-Wall", "-Werror", "verifiers/cjose.c", "-lcjose", "-ljansson"}},
		"jose":         {script: "verifiers/jose.sh"},
	}
}

func handed(t *testing.T, name string, cases []verification, issuers []issuer) []verdict {
	t.Helper()
	how := handedPrograms()[name]
	program := how.script
	if how.compile != nil {
		program = filepath.Join(t.TempDir(), "verifier")
		command(t, verifierTime, nil, how.compile[0], append(slices.Clone(how.compile[1:]), "-o", program)...)
	}
	verdicts := make([]verdict, len(cases))
	for i, c := range cases {
		verdicts[i].Name = c.Name
		key := []byte(c.JWKS)
		if how.pem {
			key = issuerOf(issuers, c).pem
		}
		ctx, cancel := context.WithTimeout(t.Context(), verifierTime)
		cmd := exec.CommandContext(ctx, program, c.Token, c.Algorithm, c.Issuer, c.Audience)
		cmd.Stdin = bytes.NewReader(key)
		out, err := cmd.CombinedOutput()
		cancel()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() == 3:
			verdicts[i].Error = strings.TrimSpace(string(out))
		case err != nil:
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	return verdicts
}

func issuerOf(issuers []issuer, c verification) issuer {
	return issuers[slices.IndexFunc(issuers, func(one issuer) bool { return one.url == c.Issuer })]
}

// gateway is a web server that checks tokens before it lets requests through, with a file in verifiers/.
type gateway struct {
	config, beside string // the file, and one that it reads
	command        func(dir, config string) []string
}

func gateways() map[string]gateway {
	return map[string]gateway{
		"haproxy": {"haproxy.cfg", "", func(_, config string) []string { return []string{"/usr/sbin/haproxy", "-db", "-f", config} }},
		"libnginx-mod-http-js": {"njs.conf", "njs.js", func(dir, config string) []string {
			return []string{"/usr/sbin/nginx", "-p", dir, "-c", config}
		}},
		"libapache2-mod-auth-openidc": {"apache.conf", "", func(dir, config string) []string {
			return []string{"/usr/sbin/apache2", "-d", dir, "-f", config, "-D", "FOREGROUND"}
		}},
	}
}

// answers shows all cases of an issuer to a gateway that is configured for it.
func (g gateway) answers(t *testing.T, cases []verification) []verdict {
	t.Helper()
	verdicts := make([]verdict, len(cases))
	for len(cases) > 0 {
		n := 0
		for n < len(cases) && cases[n].Issuer == cases[0].Issuer {
			n++
		}
		open, stop := g.start(t, cases[0])
		for i, c := range cases[:n] {
			one := &verdicts[len(verdicts)-len(cases)+i]
			one.Name = c.Name
			if err := open(c.Token); err != nil {
				one.Error = err.Error()
			}
		}
		stop()
		cases = cases[n:]
	}
	return verdicts
}

// start runs the gateway for tokens like c until it is stopped or the test ends, and returns a function that shows it a
// token. A gateway that refuses its settings refuses every token.
func (g gateway) start(t *testing.T, c verification) (open func(token string) error, stop func()) {
	t.Helper()
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		check(t, os.Chmod(parent, 0o755)) // the workers run as another user
	}
	check(t, os.Mkdir(filepath.Join(dir, "www"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "www", "index.html"), []byte("let through\n"), 0o644))
	addr := "127.0.0.1:" + freePort(t)
	jwks, ca := overTLS(t, dir, c.JWKS)
	first, last := keysAsPEM(t, dir, c.JWKS)
	set := strings.NewReplacer(
		"ADDRESS", addr, "ALGORITHM", c.Algorithm, "FIRST_KEY_FILE", first, "LAST_KEY_FILE", last, "KEY_FOLDER", dir, "ISSUER", c.Issuer, "AUDIENCE", c.Audience, "JWKS", jwks, "CA_FILE", ca, "FOLDER", dir,
	)
	for _, file := range []string{g.config, g.beside} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join("verifiers", file))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, file), []byte(set.Replace(string(text))), 0o644))
	}
	args := g.command(dir, filepath.Join(dir, g.config))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	var log tail
	cmd.Stdout, cmd.Stderr = &log, &log
	check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			_ = err // HAProxy reports how it was stopped
		case <-time.After(startTime):
			_ = cmd.Process.Kill()
			t.Errorf("%s does not end:\n%s", args[0], log.text())
		}
		if t.Failed() {
			t.Logf("%s:\n%s", args[0], log.text())
		}
	})
	t.Cleanup(stop)
	refused := ""
	testenv.Eventually(t, startTime, args[0]+" listens", func() bool {
		select {
		case err := <-ended:
			ended <- err
			refused = fmt.Sprintf("%v: %s", err, complaint(log.text()))
			return true
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return func(token string) error {
		if refused != "" {
			return errors.New(refused)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", http.NoBody)
		check(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		check(t, err)
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return errors.New(strings.TrimSpace(resp.Status + " " + resp.Header.Get("WWW-Authenticate")))
		}
		return nil
	}, stop
}

// keysAsPEM runs the command of the documentation, and returns the files of the first and the last key.
func keysAsPEM(t *testing.T, dir string, jwks []byte) (first, last string) {
	t.Helper()
	text, err := os.ReadFile(tableFile)
	check(t, err)
	_, command, found := strings.Cut(string(text), "```sh\ncurl -fsS https://auth.example.com/.well-known/jwks.json | ")
	command, _, ended := strings.Cut(command, "\n```\n")
	if !found || !ended {
		t.Fatalf("%s has no command that makes files in PEM", tableFile)
	}
	commandIn(t, verifierTime, dir, jwks, "sh", "-c", command)
	var set struct{ Keys []struct{ Kid string } }
	check(t, json.Unmarshal(jwks, &set))
	if len(set.Keys) == 0 {
		t.Fatalf("a JWKS without keys: %s", jwks)
	}
	return filepath.Join(dir, set.Keys[0].Kid+".pem"), filepath.Join(dir, set.Keys[len(set.Keys)-1].Kid+".pem")
}

// overTLS serves a JWKS over https, since mod_auth_openidc accepts no other URL.
func overTLS(t *testing.T, dir string, jwks []byte) (url, ca string) {
	t.Helper()
	ca = filepath.Join(dir, "ca.pem")
	writeCertificates(t, ca, filepath.Join(dir, "server.pem"))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.pem"))
	check(t, err)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jwks)
	}))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.URL + "/.well-known/jwks.json", ca
}

// complaint returns the line of a log that names the fault.
func complaint(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	i := max(0, slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "error") }))
	return lines[i]
}

// TestGatewaysCheckClaims: the files for web servers check issuer, audience and time too, and not only the signature.
func TestGatewaysCheckClaims(t *testing.T) {
	t.Parallel()
	now := newIssuer(t, "ES256", "at+jwt", "", 0)
	past := newIssuer(t, "ES256", "at+jwt", "", 24*time.Hour)
	for name, gate := range gateways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version := debian(t, name, "nginx", "python3-jwcrypto")[0]
			for _, tt := range []struct {
				name             string
				of               issuer
				issuer, audience string
				taken            bool
			}{
				{"a good token", now, now.url, testenv.Audience, true},
				{"a token of another issuer", now, "https://elsewhere.example", testenv.Audience, false},
				{"a token for another audience", now, now.url, "another", false},
				{"an expired token", past, past.url, testenv.Audience, false},
			} {
				open, _ := gate.start(t, verification{Issuer: tt.issuer, Audience: tt.audience, JWKS: tt.of.jwks, Algorithm: "ES256"})
				err := open(tt.of.token)
				if (err == nil) != tt.taken {
					t.Errorf("%s: %v", tt.name, err)
				}
				seen := "taken"
				if err != nil {
					seen = "refused: " + err.Error()
				}
				record(name+" (Debian)", version, tt.name, seen)
			}
			open, _ := gate.start(t, verification{Issuer: now.url, Audience: testenv.Audience, JWKS: now.jwks, Algorithm: "ES256"})
			if err := open(""); err == nil {
				t.Error("a request without a token passes")
			}
		})
	}
}
