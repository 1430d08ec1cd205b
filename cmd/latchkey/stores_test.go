package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

const goodPassword = "correct horse battery"

// liveAnAccount signs up, logs in twice, lists sessions, refreshes, and ends the sessions in every possible way.
func liveAnAccount(t *testing.T, addr, email string) {
	t.Helper()
	conn := testenv.Dial(t, addr)
	auth, sessions := latchkeyv1.NewAuthServiceClient(conn), latchkeyv1.NewSessionServiceClient(conn)
	if _, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: goodPassword, FirstName: "A", LastName: "B"}); err != nil {
		t.Fatal(err)
	}
	login := func() *latchkeyv1.Tokens {
		got, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: goodPassword})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetTokens()
	}
	first, second, third := login(), login(), login()
	refreshed, err := auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: second.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+first.GetAccessToken())
	list, err := sessions.ListSessions(ctx, &latchkeyv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 3 {
		t.Fatalf("%d sessions: %v", len(list.GetSessions()), err)
	}
	if _, err := sessions.RevokeSession(ctx, &latchkeyv1.RevokeSessionRequest{SessionId: third.GetSessionId()}); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.ForgotPassword(t.Context(), &latchkeyv1.ForgotPasswordRequest{Email: email}); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: first.GetRefreshToken()}); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: refreshed.GetTokens().GetRefreshToken(), AllSessions: true}); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []*latchkeyv1.Tokens{first, second, third} {
		got, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
		if err != nil || got.GetValid() {
			t.Errorf("an ended session: %v, %v", got, err)
		}
	}
}

// withParameter adds a parameter to a URL.
func withParameter(text, name, value string) string {
	separator := "?"
	if strings.Contains(text, "?") {
		separator = "&"
	}
	return text + separator + name + "=" + url.QueryEscape(value)
}

// otherForms returns the URL of the same database in other forms that libpq accepts.
func otherForms(t *testing.T, text string) (socket, keywords string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host[0] != '/' {
		t.Skip("PostgreSQL of the tests has no socket here")
	}
	return fmt.Sprintf("postgres://%s@%s:%d/%s", cfg.User, strings.ReplaceAll(cfg.Host, "/", "%2F"), cfg.Port, cfg.Database),
		fmt.Sprintf("host=%s port=%d user=%s dbname=%s", cfg.Host, cfg.Port, cfg.User, cfg.Database)
}

// TestFormsOfDatabaseURLs: forms that libpq and pgx accept work for the service and for the commands.
func TestFormsOfDatabaseURLs(t *testing.T) {
	t.Parallel()
	base := testenv.EmptyDatabase(t)
	socket, keywords := otherForms(t, base)
	for name, text := range map[string]string{
		"exec":            withParameter(base, "default_query_exec_mode", "exec"),
		"simple_protocol": withParameter(base, "default_query_exec_mode", "simple_protocol"),
		"cache_describe":  withParameter(base, "default_query_exec_mode", "cache_describe"),
		"pool_max_conns":  withParameter(base, "pool_max_conns", "7"),
		"search_path":     withParameter(base, "search_path", "public"),
		"socket":          socket,
		"keywords":        keywords,
	} {
		settings := serveSettings(t)
		settings["LATCHKEY_DATABASE_URL"] = text
		p := start(t, pairs(settings), "serve")
		liveAnAccount(t, p.addrs(t)["grpc"], name+"@example.com")
		for _, args := range [][]string{{"migrate", "up"}, {"migrate", "status"}, {"keys", "list"}, {"users", "export"}, {"config"}} {
			if err := run(t.Context(), args, pairs(settings), io.Discard); err != nil {
				t.Errorf("%s: %v: %v", name, args, err)
			}
		}
		p.signal(t, syscall.SIGTERM) // if it were killed, revocations at the next one would wait for a lease
		if code := p.exit(t); code != exitDone {
			t.Errorf("%s: exit %d", name, code)
		}
	}
}

// TestIsolationOfTheRole: if the database has a stricter default, calls at the same time fail with 40001 unless
// Latchkey sets the level.
func TestIsolationOfTheRole(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"serializable", "repeatable read"} {
		settings := serveSettings(t)
		settings["LATCHKEY_ARGON2_MEMORY_KIB"], settings["LATCHKEY_ARGON2_TIME"] = "7168", "5"
		name := queryStrings(t, settings["LATCHKEY_DATABASE_URL"], "SELECT quote_ident(current_database())")[0]
		runSQL(t, settings["LATCHKEY_DATABASE_URL"], "ALTER DATABASE "+name+" SET default_transaction_isolation = '"+level+"'")
		auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, start(t, pairs(settings), "serve").addrs(t)["grpc"]))
		if _, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: goodPassword, FirstName: "A", LastName: "B"}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				_, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: goodPassword})
				// A busy machine has many attempts open at once, and refuses others for a second.
				for began := time.Now(); status.Code(err) == codes.ResourceExhausted && time.Since(began) < patience; {
					time.Sleep(time.Second)
					_, err = auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: goodPassword})
				}
				if err != nil {
					t.Errorf("%s: %v", level, err)
				}
			})
		}
		all.Wait()
	}
}

// TestHopelessStores: an error that waiting cannot mend ends the start at once, with the reason.
func TestHopelessStores(t *testing.T) {
	t.Parallel()
	good := serveSettings(t)
	database, cache := good["LATCHKEY_DATABASE_URL"], testenv.RealRedis(t)
	replaced := func(name, value string) string {
		t.Helper()
		_, keywords := otherForms(t, database)
		return keywords + " " + name + "=" + value
	}
	for name, test := range map[string]struct{ variable, url, want string }{
		"no such database":  {"LATCHKEY_DATABASE_URL", replaced("dbname", "nobody_made_it"), "nobody_made_it"},
		"no such role":      {"LATCHKEY_DATABASE_URL", replaced("user", "nobody_made_it"), "refuses the role or its password"},
		"unknown parameter": {"LATCHKEY_DATABASE_URL", withParameter(database, "no_such_parameter", "1"), "no_such_parameter"},
		"direct URL":        {"LATCHKEY_DATABASE_DIRECT_URL", replaced("dbname", "nobody_made_it"), "nobody_made_it"},
		"Redis password":    {"LATCHKEY_REDIS_URL", withCredentials(cache, "nobody", "wrong-pa55"), "WRONGPASS"},
	} {
		settings := maps.Clone(good)
		settings["LATCHKEY_REDIS_URL"] = cache
		settings[test.variable] = test.url
		began := time.Now()
		err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.variable) || strings.Contains(err.Error(), "wrong-pa55") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > app.StorePatience/2 {
			t.Errorf("%s: the start took %s to give up", name, took)
		}
	}
}

func withCredentials(text, user, password string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	return scheme + "://" + user + ":" + password + "@" + rest
}

// TestWrongPartOfAURL: the error names the wrong part, and shows nothing of the password.
func TestWrongPartOfAURL(t *testing.T) {
	t.Parallel()
	const marker = "hunter2secret"
	for text, want := range map[string]string{
		"postgres://u:" + marker + "%@h/d":                                                "its password has a %",
		"postgres://u%zz:" + marker + "@h/d":                                              "its user has a %",
		"postgres://u:" + marker + "@h:port/d":                                            "its port is not a number",
		"postgres://u:" + marker + "@h:70000/d":                                           "its port is not a number",
		"postgres://u:" + marker + "@[::1/d":                                              "its host has a bracket",
		"postgres://u:" + marker + "@h/d?sslmode=maybe":                                   "its sslmode",
		"postgres://u:" + marker + "@h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem": "cannot be read: no such file",
		"postgres://u:" + marker + "@h/d?connect_timeout=soon":                            "its connect_timeout",
		"postgres://u:" + marker + "@h/d?pool_max_conns=many":                             "pool_",
		"postgres://u:" + marker + "@h/d?default_query_exec_mode=fast":                    "its default_query_exec_mode",
		"postgres://u:" + marker + "@h/d?target_session_attrs=any-at-all":                 "its target_session_attrs",
		"postgres://u:half@" + marker + "@h/d":                                            "ends early",
		"postgres://u:half/" + marker + "@h/d":                                            "ends early",
		"host=h password=" + marker + " port=many":                                        "its port is not a number",
		"host=h password='" + marker:                                                      "key=value",
		marker:                                                                            "is not a URL",
	} {
		settings := map[string]string{"LATCHKEY_DATABASE_URL": text}
		for _, args := range [][]string{{"config"}, {"migrate", "status"}} {
			err := run(t.Context(), args, pairs(settings), io.Discard)
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), marker) {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// TestEndpointOfACluster: a managed cluster has one address. The node there knows the others.
func TestEndpointOfACluster(t *testing.T) {
	t.Parallel()
	nodes := testenv.RedisCluster(t, [3]string{"noeviction", "noeviction", "noeviction"})
	settings := serveSettings(t)
	settings["LATCHKEY_REDIS_URL"] = "redis://" + nodes[0].Options().Addr
	p := start(t, pairs(settings), "serve")
	addr := p.addrs(t)["grpc"]
	for i := range 3 { // keys of every node
		liveAnAccount(t, addr, fmt.Sprintf("ada%d@example.com", i))
	}
	if text := p.text(&p.stderr); !strings.Contains(text, "one of a Redis cluster") {
		t.Errorf("it says nothing:\n%s", text)
	}
	settings["LATCHKEY_REDIS_URL"] += "/3"
	if err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard); exitCode(err) != exitFailed {
		t.Errorf("database 3 of a cluster: %v", err)
	}
}

// privateRedis starts a redis-server that accepts only TLS and only the user "latchkey", with these rights, and returns
// its address.
func privateRedis(t *testing.T, certFile, keyFile string, rights ...string) string {
	t.Helper()
	program, err := devstack.FindRedis()
	if err != nil {
		t.Skip(err)
	}
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = free.Close()
	args := append([]string{
		"--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--tls-cert-file", certFile, "--tls-key-file", keyFile,
		"--tls-auth-clients", "no", "--user", "default", "off", "--user", "latchkey", "on", ">hunter2secret",
	}, rights...)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return address
}

// leastRedisRights returns the rights that docs/operations.md names.
func leastRedisRights(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "ACL SETUSER latchkey on >PASSWORD ")
	line, _, ended := strings.Cut(after, "\n")
	if !found || !ended {
		t.Fatal("docs/operations.md has no ACL line")
	}
	return strings.Fields(line)
}

// TestPrivateRedis: over TLS with an authority of the operator's own, and with the least rights.
func TestPrivateRedis(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testcert.Write(t, t.TempDir(), "redis", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	address := privateRedis(t, certFile, keyFile, leastRedisRights(t)...)
	settings := serveSettings(t)
	settings["LATCHKEY_REDIS_URL"] = "rediss://latchkey:hunter2secret@" + address
	began := time.Now()
	err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "LATCHKEY_REDIS_CA_FILE") || time.Since(began) > app.StorePatience/2 {
		t.Errorf("without the authority, after %s: %v", time.Since(began), err)
	}
	settings["LATCHKEY_REDIS_CA_FILE"] = certFile
	p := start(t, pairs(settings), "serve")
	liveAnAccount(t, p.addrs(t)["grpc"], "ada@example.com")
	if text := p.text(&p.stderr); strings.Contains(text, "NOPERM") {
		t.Errorf("a right is missing:\n%s", text)
	}
	settings["LATCHKEY_REDIS_URL"] = "redis://latchkey:hunter2secret@" + address
	if err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "rediss://") {
		t.Errorf("an authority and no TLS: %v", err)
	}
}

// leastRights returns the statements of docs/operations.md for a role that owns the tables and one that serves.
func leastRights(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```sql\n-- As the owner of the tables")
	statements, _, ended := strings.Cut(after, "```")
	if !found || !ended {
		t.Fatal("docs/operations.md has no rights")
	}
	_, statements, _ = strings.Cut(statements, "\n")
	return statements
}

// TestLeastRights: one role owns the tables and migrates, another serves.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	base := settings["LATCHKEY_DATABASE_URL"]
	suffix := strings.ReplaceAll(queryStrings(t, base, "SELECT current_database()::text")[0], "-", "_")
	owner, role := "owner_"+suffix, "serves_"+suffix
	runSQL(t, base, fmt.Sprintf("CREATE ROLE %s LOGIN; CREATE ROLE %s LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO %s", owner, role, owner))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, base)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		_, _ = conn.Exec(ctx, fmt.Sprintf("DROP OWNED BY %s, %s; DROP ROLE %s, %s", owner, role, owner, role), pgx.QueryExecModeSimpleProtocol)
	})
	as := func(name string) string {
		cfg, err := pgx.ParseConfig(base)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", cfg.Host, cfg.Port, name, cfg.Database)
	}
	settings["LATCHKEY_DATABASE_URL"] = as(owner)
	if err := run(t.Context(), []string{"migrate", "up"}, pairs(settings), io.Discard); err != nil {
		t.Fatal(err)
	}
	runSQL(t, as(owner), strings.ReplaceAll(leastRights(t), "latchkey_serve", role))
	settings["LATCHKEY_DATABASE_URL"], settings["LATCHKEY_MIGRATE"] = as(role), "false"
	p := start(t, pairs(settings), "serve")
	liveAnAccount(t, p.addrs(t)["grpc"], "ada@example.com")
	if err := run(t.Context(), []string{"keys", "rotate", "--now"}, pairs(settings), io.Discard); err != nil {
		t.Error(err)
	}
	if text := p.text(&p.stderr); strings.Contains(text, "42501") || strings.Contains(text, "permission denied") {
		t.Errorf("a right is missing:\n%s", text)
	}
	if err := run(t.Context(), []string{"migrate", "down", "--yes"}, pairs(settings), io.Discard); err == nil {
		t.Error("who serves takes migrations back")
	}
}

// TestFailedHandshakeIsLogged: only the log shows a proxy's mistakes.
func TestFailedHandshakeIsLogged(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = testcert.Write(t, t.TempDir(), "first")
	p := start(t, pairs(settings), "serve")
	addr := p.addrs(t)["grpc"]
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // as a proxy that speaks HTTP/1.1 upstream: no ALPN
	if conn, err := dialer.DialContext(t.Context(), "tcp", addr); err == nil {
		_ = conn.Close()
	}
	testenv.Eventually(t, patience, "it is logged, with the peer and the reason", func() bool {
		text := p.text(&p.stderr)
		return strings.Contains(text, "TLS handshake failed") && strings.Contains(text, "ALPN") && strings.Contains(text, `"peer":"127.0.0.1:`)
	})
}
