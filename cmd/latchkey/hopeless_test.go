//go:build unix

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// hiddenPassword is in the URLs of stores that cannot be used. No error may contain it.
const hiddenPassword = "hunter2secret"

// endsAtOnce runs a command that must fail without waiting for a store, with all of these words.
func endsAtOnce(t *testing.T, what string, args []string, settings map[string]string, wants ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), app.StorePatience/3)
	defer cancel()
	err := run(ctx, args, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || ctx.Err() != nil {
		t.Errorf("%s: %v does not give up by itself: %v", what, args, err)
		return
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q: %v", what, args, want, err)
		}
	}
	if strings.Contains(err.Error(), hiddenPassword) {
		t.Errorf("%s: %v shows the password: %v", what, args, err)
	}
}

// TestStandby: a standby of a real pair accepts no writes, and waiting does not make it the primary.
func TestStandby(t *testing.T) {
	t.Parallel()
	pair, settings := testenv.NewPair(t), serveSettings(t)
	standby := strings.Replace(pair.StandbyURL(), "latchkey@", "latchkey:"+hiddenPassword+"@", 1)
	settings["LATCHKEY_DATABASE_URL"] = standby
	for _, args := range [][]string{{"serve"}, {"migrate", "up"}, {"migrate", "down", "--yes"}, {"keys", "rotate"}} {
		endsAtOnce(t, "a standby", args, settings, "standby", "name the primary", "target_session_attrs=read-write")
	}
	settings["LATCHKEY_DATABASE_URL"], settings["LATCHKEY_DATABASE_DIRECT_URL"] = pair.PrimaryURL(), standby
	endsAtOnce(t, "a standby past the pooler", []string{"serve"}, settings, "LATCHKEY_DATABASE_DIRECT_URL", "standby", "name the primary")
}

// redisOn starts a redis-server with these arguments and returns its address.
func redisOn(t *testing.T, args ...string) string {
	t.Helper()
	program, err := devstack.FindRedis()
	if err != nil {
		t.Skip(err)
	}
	address := unusedAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", ""}, args...)...)
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := redis.NewClient(&redis.Options{Addr: address, Password: hiddenPassword})
	t.Cleanup(func() { _ = client.Close() })
	testenv.Eventually(t, patience, "redis-server answers", func() bool {
		err := client.Ping(t.Context()).Err()
		var answer redis.Error
		return err == nil || errors.As(err, &answer)
	})
	return address
}

func unusedAddress(t *testing.T) string {
	t.Helper()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = free.Close() }()
	return free.Addr().String()
}

// TestUnfitRedis: servers that answer but accept no writes, or that are not what the URL says.
func TestUnfitRedis(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	primary := redisOn(t, "--requirepass", hiddenPassword)
	host, port, _ := net.SplitHostPort(primary)
	replica := redisOn(t, "--replicaof", host+" "+port, "--masterauth", hiddenPassword, "--requirepass", hiddenPassword)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "sentinel monitor mymaster %s %s 1\nsentinel auth-pass mymaster %s\n", host, port, hiddenPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := redisSentinel(t, config)
	cert, key := testcert.Write(t, t.TempDir(), "redis", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	private := privateRedis(t, cert, key, "~*", "+@all", "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes")
	settings["LATCHKEY_REDIS_CA_FILE"] = cert
	login := ":" + hiddenPassword + "@"
	for what, test := range map[string]struct {
		url   string
		wants []string
	}{
		"a replica":              {"redis://" + login + replica, []string{"replica", "name the master", "redis+sentinel://"}},
		"no cluster":             {"redis://" + login + primary + "," + replica, []string{"no cluster", "redis://host:port"}},
		"a Sentinel as a server": {"redis://" + sentinel, []string{"Sentinel", "redis+sentinel://"}},
		"an unknown master":      {"redis+sentinel://" + login + sentinel + "/another", []string{"Sentinels", "no master of that name"}},
		"no password":            {"redis://" + primary, []string{"NOAUTH"}},
		"no certificate":         {"rediss://latchkey:" + hiddenPassword + "@" + private, []string{"TLS handshake", "certificate required"}},
	} {
		settings := maps.Clone(settings)
		settings["LATCHKEY_REDIS_URL"] = test.url
		if !strings.HasPrefix(test.url, "rediss") {
			delete(settings, "LATCHKEY_REDIS_CA_FILE")
		}
		endsAtOnce(t, what, []string{"serve"}, settings, append(test.wants, "LATCHKEY_REDIS_URL")...)
	}
}

func redisSentinel(t *testing.T, config string) string {
	t.Helper()
	program, err := devstack.FindRedis()
	if err != nil {
		t.Skip(err)
	}
	address := unusedAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, config, "--sentinel", "--port", port, "--bind", "127.0.0.1")
	cmd.Dir = filepath.Dir(config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = client.Close() })
	testenv.Eventually(t, patience, "the Sentinel answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	return address
}

// tlsPostgres is a PostgreSQL that accepts only TLS, and requires a certificate from the role "certified".
type tlsPostgres struct {
	address, ca           string // ca has signed the server's certificate, which is for 127.0.0.1
	clientCert, clientKey string
}

func startTLSPostgres(t *testing.T, edits ...func(*x509.Certificate)) tlsPostgres {
	t.Helper()
	scratch, err := devstack.NewScratch(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scratch.Remove(); err != nil {
			t.Error(err)
		}
	})
	own := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true } // signed by itself, and trusted as such
	cert, key := testcert.Write(t, scratch.Dir, "postgres", append(edits, own)...)
	s := tlsPostgres{ca: cert}
	s.clientCert, s.clientKey = testcert.Write(t, t.TempDir(), "certified", own)
	hba, clients := filepath.Join(scratch.Dir, "pg_hba.conf"), filepath.Join(scratch.Dir, "clients.pem")
	known, err := os.ReadFile(s.clientCert)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.Stat(scratch.Dir)
	if err != nil {
		t.Fatal(err)
	}
	const rules = "local all all trust\nhostssl all certified 127.0.0.1/32 trust clientcert=verify-ca\nhostssl all latchkey 127.0.0.1/32 trust\n"
	if err := errors.Join(os.WriteFile(hba, []byte(rules), 0o600), os.WriteFile(clients, known, 0o600)); err != nil {
		t.Fatal(err)
	}
	if stat, ok := folder.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		for _, path := range []string{cert, key, hba, clients} {
			if err := os.Chown(path, int(stat.Uid), int(stat.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var server *devstack.Postgres
	var port string
	for range 5 { // initdb takes seconds, in which another test may get the port
		s.address = unusedAddress(t)
		_, port, _ = net.SplitHostPort(s.address)
		server, err = devstack.StartPostgres(t.Context(), devstack.PostgresConfig{DataDir: filepath.Join(scratch.Dir, "data"), Settings: map[string]string{
			"listen_addresses": "127.0.0.1", "port": port, "ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key, "ssl_ca_file": clients, "hba_file": hba,
		}})
		if err == nil || !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	runSQL(t, strings.ReplaceAll(server.URL("postgres"), ":5432", ":"+port), "CREATE ROLE certified LOGIN SUPERUSER")
	return s
}

func (s tlsPostgres) url(role, address, query string) string {
	return "postgres://" + role + ":" + hiddenPassword + "@" + address + "/postgres?" + query
}

// TestCertificatesOfPostgres: with a wrong one the start fails with advice; the right ones work.
func TestCertificatesOfPostgres(t *testing.T) {
	t.Parallel()
	s, settings := startTLSPostgres(t), serveSettings(t)
	expired := startTLSPostgres(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	otherCA, _ := testcert.Write(t, t.TempDir(), "another authority", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	strangerCert, strangerKey := testcert.Write(t, t.TempDir(), "a stranger")
	_, port, _ := net.SplitHostPort(s.address)
	trusted := "sslmode=verify-full&sslrootcert=" + s.ca
	for what, test := range map[string]struct {
		url   string
		wants []string
	}{
		"another authority":            {s.url("latchkey", s.address, "sslmode=verify-full&sslrootcert="+otherCA), []string{"no authority that is trusted here", "sslrootcert"}},
		"the system's authorities":     {s.url("latchkey", s.address, "sslmode=verify-full"), []string{"no authority that is trusted here", "sslrootcert"}},
		"another name":                 {s.url("latchkey", "localhost:"+port, trusted), []string{"for another name", "localhost"}},
		"expired":                      {expired.url("latchkey", expired.address, "sslmode=verify-full&sslrootcert="+expired.ca), []string{"not valid", "expired"}},
		"no certificate of the client": {s.url("certified", s.address, trusted), []string{"certificate of the client", "sslcert", "sslkey"}},
		"a stranger's certificate":     {s.url("certified", s.address, trusted+"&sslcert="+strangerCert+"&sslkey="+strangerKey), []string{"certificate", "sslcert", "sslkey"}},
		"no TLS":                       {s.url("latchkey", s.address, "sslmode=disable"), []string{"pg_hba.conf", "sslmode=verify-full"}},
	} {
		settings := maps.Clone(settings)
		settings["LATCHKEY_DATABASE_URL"] = test.url
		for _, args := range [][]string{{"serve"}, {"migrate", "up"}} {
			endsAtOnce(t, what, args, settings, append(test.wants, "LATCHKEY_DATABASE_URL")...)
		}
	}
	settings["LATCHKEY_DATABASE_URL"] = s.url("certified", s.address, trusted+"&sslcert="+s.clientCert+"&sslkey="+s.clientKey)
	p := start(t, pairs(settings), "serve")
	liveAnAccount(t, p.addrs(t)["grpc"], "ada@example.com")
	if text := p.text(&p.stderr) + p.text(&p.stdout); strings.Contains(text, hiddenPassword) {
		t.Errorf("the log shows the password:\n%s", text)
	}
}
