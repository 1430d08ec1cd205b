package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v\n%s", url, resp.Status, err, body)
	}
	return string(body)
}

func TestServe(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_EMAIL_VERIFICATION"] = "off" // its mail would be pending: nobody listens at the address for SMTP
	p := start(t, pairs(settings), "serve")
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
	metrics := get(t, http.DefaultClient, "http://"+addrs["ops"]+"/metrics")
	for _, want := range []string{
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Login",grpc_service="latchkey.v1.AuthService",grpc_type="unary"} 1`,
		"latchkey_hash_total 2", "latchkey_mail_pending 0", `latchkey_store_up{store="redis"} 1`, "latchkey_postgres_connections ", "go_goroutines ",
		"latchkey_postgres_acquires_total ", "latchkey_redis_acquires_total ", "latchkey_ledger_trusted 1", "latchkey_validations_in_store_total 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	get(t, http.DefaultClient, "http://"+addrs["ops"]+"/debug/pprof/")
	if jwks := get(t, http.DefaultClient, "http://"+addrs["http"]+"/.well-known/jwks.json"); !strings.Contains(jwks, `"crv":"P-256"`) {
		t.Errorf("JWKS %s", jwks)
	}
	settings["LATCHKEY_GRPC_ADDR"] = addrs["grpc"]
	var out bytes.Buffer
	if err := run(t.Context(), []string{"healthcheck"}, pairs(settings), &out); err != nil || out.String() != "SERVING\n" {
		t.Errorf("healthcheck: %q, %v", out.String(), err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != exitDone {
		t.Errorf("exit %d after SIGTERM:\n%s", code, p.text(&p.stderr))
	}
	if err := run(t.Context(), []string{"healthcheck"}, pairs(settings), &out); exitCode(err) != exitFailed {
		t.Errorf("healthcheck of a stopped service: %v", err)
	}
	for line := range strings.Lines(p.text(&p.stderr)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not on a terminal, yet not JSON: %s", line)
		}
	}
	// Another replica starts later: it finds the account, the session and the keys.
	settings["LATCHKEY_GRPC_ADDR"] = "127.0.0.1:0"
	again := start(t, pairs(settings), "serve")
	auth = latchkeyv1.NewAuthServiceClient(testenv.Dial(t, again.addrs(t)["grpc"]))
	resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()})
	if err != nil || !resp.GetValid() {
		t.Errorf("after a restart: %v, %v", resp, err)
	}
	if _, err := auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: login.GetTokens().GetRefreshToken()}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// TestReplicasStartTogether: on an empty database they make one key and one schema.
func TestReplicasStartTogether(t *testing.T) {
	t.Parallel()
	settings := pairs(serveSettings(t))
	replicas := []*process{start(t, settings, "serve"), start(t, settings, "serve"), start(t, settings, "serve")}
	var wg sync.WaitGroup
	clients := make([]latchkeyv1.AuthServiceClient, len(replicas))
	for i, p := range replicas {
		clients[i] = latchkeyv1.NewAuthServiceClient(testenv.Dial(t, p.addrs(t)["grpc"]))
	}
	signUp := &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse battery", FirstName: "A", LastName: "B"}
	if _, err := clients[0].SignUp(t.Context(), signUp); err != nil {
		t.Fatal(err)
	}
	for _, at := range clients {
		wg.Go(func() {
			login, err := at.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: "correct horse battery"})
			if err != nil {
				t.Error(err)
				return
			}
			for _, other := range clients {
				resp, err := other.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()})
				if err != nil || !resp.GetValid() {
					t.Errorf("%v, %v", resp, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestStoresComeUpLate: containers start in any order.
func TestStoresComeUpLate(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	database := testenv.NewProxy(t, settings["LATCHKEY_DATABASE_URL"])
	settings["LATCHKEY_DATABASE_URL"] = database.URL()
	database.Cut()
	p := start(t, pairs(settings), "serve")
	testenv.Eventually(t, patience, "it says what it waits for", func() bool {
		return strings.Contains(p.text(&p.stderr), "waiting for a store")
	})
	database.Restore()
	p.addrs(t)
}

// TestLogIsWhole: lines that go-redis logs about an unreachable Redis are in the log too.
func TestLogIsWhole(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	cache := testenv.NewProxy(t, settings["LATCHKEY_REDIS_URL"])
	settings["LATCHKEY_REDIS_URL"], settings["LATCHKEY_LOG_LEVEL"] = cache.URL(), "debug"
	cache.Cut()
	p := start(t, pairs(settings), "serve")
	testenv.Eventually(t, patience, "go-redis is heard", func() bool {
		return strings.Contains(p.text(&p.stderr), `"level":"DEBUG","msg":"go-redis"`)
	})
	cache.Restore()
	p.addrs(t)
	for line := range strings.Lines(p.text(&p.stderr)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestWithoutMigrate(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_MIGRATE"] = "false"
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	err = run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "latchkey migrate up") {
		t.Fatalf("got %v", err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"migrate", "status"}, pairs(settings), &out); err != nil || strings.Count(out.String(), "pending") != len(names) || !strings.Contains(out.String(), "version 0 of") {
		t.Errorf("status: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := run(t.Context(), []string{"migrate", "up"}, pairs(settings), &out); err != nil || strings.Count(out.String(), "applied") != len(names) {
		t.Errorf("up: %v\n%s", err, out.String())
	}
	p := start(t, pairs(settings), "serve")
	p.addrs(t)
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != exitDone {
		t.Errorf("exit %d", code)
	}
	out.Reset()
	if err := run(t.Context(), []string{"migrate", "down", "--yes"}, pairs(settings), &out); err != nil || out.String() != "took back "+names[len(names)-1]+"\n" {
		t.Errorf("down: %v\n%s", err, out.String())
	}
}

func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // the test's own
	settings := serveSettings(t)
	settings["LATCHKEY_HTTP_ADDR"] = l.Addr().String()
	err = run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.HasPrefix(err.Error(), "LATCHKEY_HTTP_ADDR: ") {
		t.Errorf("got %v", err)
	}
}

// TestWrongSecretKey: signing keys that are sealed with another key are not silently replaced.
func TestWrongSecretKey(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	p := start(t, pairs(settings), "serve")
	p.addrs(t)
	p.signal(t, syscall.SIGTERM)
	p.exit(t)
	right := settings["LATCHKEY_SECRET_KEY"]
	settings["LATCHKEY_SECRET_KEY"] = strings.Replace(right, "row0", "zzzz", 1)
	err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "LATCHKEY_SECRET_KEY_PREVIOUS") || !strings.Contains(err.Error(), `"Changing the secret key" in docs/operations.md`) {
		t.Fatalf("got %v", err)
	}
	settings["LATCHKEY_SECRET_KEY_PREVIOUS"] = right
	p = start(t, pairs(settings), "serve")
	p.addrs(t)
	p.signal(t, syscall.SIGTERM)
	p.exit(t)
	// The secret key and the signing keys are lost.
	settings["LATCHKEY_SECRET_KEY"] = strings.Replace(right, "AAEC", "yyyy", 1)
	delete(settings, "LATCHKEY_SECRET_KEY_PREVIOUS")
	if _, err := openTestPool(t, settings["LATCHKEY_DATABASE_URL"]).Exec(t.Context(), "DELETE FROM signing_keys"); err != nil {
		t.Fatal(err)
	}
	start(t, pairs(settings), "serve").addrs(t)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = testcert.Write(t, t.TempDir(), "first")
	p := start(t, pairs(settings), "serve")
	addrs := p.addrs(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	get(t, client, "https://"+addrs["http"]+"/healthz")
	settings["LATCHKEY_GRPC_ADDR"] = addrs["grpc"]
	if err := run(t.Context(), []string{"healthcheck"}, pairs(settings), io.Discard); err != nil {
		t.Errorf("healthcheck: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"])).ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("plaintext on a TLS port: %v", err)
	}
}

// TestSettingsReachTheService sets values that differ from the defaults, and checks the effect of each on the service.
func TestSettingsReachTheService(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	maps.Copy(settings, map[string]string{
		"LATCHKEY_ACCESS_TOKEN_TTL": "1m", "LATCHKEY_SESSION_IDLE_TTL": "2h", "LATCHKEY_SESSION_MAX_TTL": "3h", "LATCHKEY_RESET_TOKEN_TTL": "7m",
		"LATCHKEY_AUDIENCE": "app", "LATCHKEY_CLIENT_ID": "web", "LATCHKEY_TOKEN_ALGORITHM": "EdDSA", "LATCHKEY_TOKEN_TYPE": "JWT", "LATCHKEY_PASSWORD_MIN_LENGTH": "12",
		"LATCHKEY_ARGON2_MEMORY_KIB": "1024", "LATCHKEY_ARGON2_TIME": "3", "LATCHKEY_ARGON2_THREADS": "2", "LATCHKEY_HASH_SLOTS": "3",
		"LATCHKEY_DATABASE_MAX_CONNS": "7", "LATCHKEY_TRUSTED_PROXIES": "127.0.0.0/8",
	})
	addrs := start(t, pairs(settings), "serve").addrs(t)
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"]))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "203.0.113.7")
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: settings["LATCHKEY_DATABASE_URL"], MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	found := func(query string) bool {
		var is bool
		if err := pool.QueryRow(t.Context(), "SELECT EXISTS ("+query+")").Scan(&is); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return is
	}

	signUp := &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "11 letters!", FirstName: "A", LastName: "B"}
	if _, err := auth.SignUp(ctx, signUp); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a password of 11: %v", err)
	}
	signUp.Password = "12 letters!!"
	if _, err := auth.SignUp(ctx, signUp); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	login, err := auth.Login(ctx, &latchkeyv1.LoginRequest{Email: signUp.GetEmail(), Password: signUp.GetPassword()})
	if err != nil {
		t.Fatal(err)
	}
	tokens := login.GetTokens()
	for name, life := range map[string]struct{ got, want time.Duration }{
		"access token":  {tokens.GetAccessExpireTime().AsTime().Sub(before), time.Minute},
		"refresh token": {tokens.GetRefreshExpireTime().AsTime().Sub(before), 2 * time.Hour},
	} {
		if off := life.got - life.want; off < -2*time.Second || off > patience {
			t.Errorf("the %s lives for %v, want %v", name, life.got, life.want)
		}
	}
	parts := strings.Split(tokens.GetAccessToken(), ".")
	for i, wants := range [][]string{{`"alg":"EdDSA"`, `"typ":"JWT"`}, {`"iss":"https://auth.example.com"`, `"aud":"app"`, `"client_id":"web"`}} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		for _, want := range wants {
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s is not in %s (%v)", want, text, err)
			}
		}
	}
	if _, err := auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := auth.Login(ctx, &latchkeyv1.LoginRequest{Email: signUp.GetEmail(), Password: "wrong"}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("a failure: %v", err)
		}
	}
	if _, err := auth.Login(ctx, &latchkeyv1.LoginRequest{Email: signUp.GetEmail(), Password: signUp.GetPassword()}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("after five failures: %v", err)
	}
	// Requests for mails have their own counter.
	if _, err := auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: signUp.GetEmail()}); err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, patience, "the reset token lives for 7 minutes", func() bool {
		return found("SELECT FROM password_resets WHERE expires_at = created_at + interval '7 minutes'")
	})
	for what, query := range map[string]string{
		"hash":    "SELECT FROM users WHERE password_hash LIKE '$argon2id$v=19$m=1024,t=3,p=2$%'",
		"address": "SELECT FROM audit_events WHERE kind = 'logged_in' AND address = '203.0.113.7'",
		// An hour more than the longest session of any replica's settings: 720 h at least.
		"end of the revocation": "SELECT FROM revocations WHERE keep_until - created_at = interval '721 hours'",
	} {
		if !found(query) {
			t.Errorf("the %s is not what was set", what)
		}
	}
	metrics := get(t, http.DefaultClient, "http://"+addrs["ops"]+"/metrics")
	for _, want := range []string{"latchkey_hash_slots 3", "latchkey_postgres_connections_max 7"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	// A refused call counts too. With the limit off it does not.
	settings["LATCHKEY_ADDRESS_RATE_LIMIT"] = "false"
	unlimited := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, start(t, pairs(settings), "serve").addrs(t)["grpc"]))
	testenv.Eventually(t, patience, "the address has used up its calls", func() bool {
		_, err := auth.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{})
		return status.Code(err) == codes.ResourceExhausted
	})
	for range 200 {
		if _, err := unlimited.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Fatalf("without a limit: %v", err)
		}
	}
}

// TestShutdownDelay: a stopping service reports it and still accepts calls, also if many signals arrive, as from a
// killed `go run` or a closed terminal. A later SIGTERM ends it at once.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_SHUTDOWN_DELAY"] = "5m"
	p := start(t, pairs(settings), "serve")
	settings["LATCHKEY_GRPC_ADDR"] = p.addrs(t)["grpc"]
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGHUP} {
		p.signal(t, sig)
	}
	testenv.Eventually(t, patience, "healthcheck says that it stops", func() bool {
		err := run(t.Context(), []string{"healthcheck"}, pairs(settings), io.Discard)
		return exitCode(err) == exitFailed && strings.HasSuffix(err.Error(), ": NOT_SERVING")
	})
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, settings["LATCHKEY_GRPC_ADDR"]))
	if _, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"}); err != nil {
		t.Errorf("a call meanwhile: %v", err)
	}
	testenv.Eventually(t, patience, "SIGTERM ends it at once", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error when it has ended
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	if code := p.exit(t); code == exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestSecondInterrupt: a person who presses Ctrl-C twice does not want to wait.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_SHUTDOWN_DELAY"] = "5m"
	p := start(t, pairs(settings), "serve")
	p.addrs(t)
	p.signal(t, syscall.SIGINT)
	testenv.Eventually(t, patience, "it stops", func() bool { return strings.Contains(p.text(&p.stderr), `"stopping"`) })
	p.signal(t, syscall.SIGINT)
	if code := p.exit(t); code == exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestHangUp: a closed terminal ends the service in order.
func TestHangUp(t *testing.T) {
	t.Parallel()
	// Under nohup this process ignores the signal, and so would its children. A signal that is caught here has its
	// default action in them.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	p := start(t, pairs(serveSettings(t)), "serve")
	p.addrs(t)
	p.signal(t, syscall.SIGHUP)
	if code := p.exit(t); code != exitDone {
		t.Errorf("exit %d:\n%s", code, p.text(&p.stderr))
	}
}
