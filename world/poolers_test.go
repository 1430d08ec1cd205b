//go:build world

package world

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// promptly bounds a revocation that waits for no lease: it takes 0.3 s on two busy cores. A replica that finds rows
// only by polling takes half a second or more.
const promptly = 400 * time.Millisecond

// pgbouncer runs a pgbouncer in this mode before the database and returns the database's URL through it. It accepts
// only those startup parameters that every pgbouncer accepts.
func pgbouncer(t *testing.T, database, mode string, poolSize int) string {
	t.Helper()
	to, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, one := range []string{dir, filepath.Dir(dir)} { // it refuses to run as root, so it runs as postgres
		if err := os.Chmod(one, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	config := fmt.Sprintf(`[databases]
latchkey = host=%s port=%d dbname=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
max_client_conn = 300
ignore_startup_parameters =
`, to.Host, to.Port, to.Database, to.User, port, mode, poolSize)
	path := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	args := []string{path}
	if os.Geteuid() == 0 {
		args = []string{"-u", "postgres", path}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	var log tail
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", log.problems())
		}
	})
	address := net.JoinHostPort("127.0.0.1", port)
	testenv.Eventually(t, startTime, "pgbouncer listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "postgres://latchkey@" + address + "/latchkey?sslmode=disable"
}

// serveEnviron returns the settings that `latchkey serve` needs besides its database.
func serveEnviron(t *testing.T, redis string, settings ...string) []string {
	t.Helper()
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LATCHKEY_REDIS_URL=" + redis,
		"LATCHKEY_SECRET_KEY=row0rScHLQXkSiKJHeL5tPQD0qdewcWxncClZlZjpUE=", "LATCHKEY_ISSUER=https://auth.example.com",
		"LATCHKEY_SMTP_URL=smtp://127.0.0.1:1025?starttls=never", "LATCHKEY_RESET_URL=https://app.example.com/reset",
		"LATCHKEY_GRPC_ADDR=127.0.0.1:0", "LATCHKEY_HTTP_ADDR=127.0.0.1:0", "LATCHKEY_OPS_ADDR=127.0.0.1:0", "LATCHKEY_ADDRESS_RATE_LIMIT=false",
	}, settings...)
}

func serve(t *testing.T, environ []string) *service {
	t.Helper()
	s := &service{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary(t), "serve")
	cmd.Env = environ
	s.run(t, cmd)
	return s
}

// refused runs a command that must end at once, and returns its error text.
func refused(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Env = environ
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("latchkey %v: %v\n%s", args, err, out)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("latchkey %v took %s to give up", args, took)
	}
	return string(out)
}

// logoutsSeenBy logs in and out on one replica, and returns how long the logouts took to be final: the other replica
// must refuse each token as soon as Logout has answered.
func logoutsSeenBy(t *testing.T, one, other *service) []time.Duration {
	t.Helper()
	here, there := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, one.grpc)), latchkeyv1.NewAuthServiceClient(testenv.Dial(t, other.grpc))
	email := "ada" + strings.ReplaceAll(one.grpc, ":", ".") + "@example.com"
	if _, err := here.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: "correct horse battery", FirstName: "A", LastName: "B"}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				login, err := here.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: "correct horse battery"})
				if err != nil {
					t.Error(err)
					return
				}
				validate := &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()}
				if got, err := there.ValidateToken(t.Context(), validate); err != nil || !got.GetValid() {
					t.Errorf("before the end: %v, %v", got, err)
				}
				began := time.Now()
				if _, err := here.Logout(t.Context(), &latchkeyv1.LogoutRequest{RefreshToken: login.GetTokens().GetRefreshToken()}); err != nil {
					t.Error(err)
					return
				}
				final := time.Since(began)
				if got, err := there.ValidateToken(t.Context(), validate); err != nil || got.GetValid() {
					t.Errorf("after the end: %v, %v", got, err)
				}
				mu.Lock()
				took = append(took, final)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// TestPgbouncer: two replicas behind pgbouncer in both modes.
func TestPgbouncer(t *testing.T) {
	t.Parallel()
	version := debian(t, "pgbouncer")[0]
	for _, test := range []struct {
		mode     string
		poolSize int
		direct   bool
	}{{"session", 80, false}, {"transaction", 8, true}} {
		t.Run(test.mode, func(t *testing.T) {
			t.Parallel()
			database := testenv.EmptyDatabase(t)
			pooled := "LATCHKEY_DATABASE_URL=" + pgbouncer(t, database, test.mode, test.poolSize)
			environ := serveEnviron(t, testenv.RealRedis(t), pooled)
			if test.direct {
				for _, args := range [][]string{{"serve"}, {"migrate", "up"}} {
					if said := refused(t, environ, args...); !strings.Contains(said, "set LATCHKEY_DATABASE_DIRECT_URL to") {
						t.Errorf("%v without the direct URL says:\n%s", args, said)
					}
				}
				if said := refused(t, append(environ, "LATCHKEY_DATABASE_DIRECT_URL="+strings.TrimPrefix(pooled, "LATCHKEY_DATABASE_URL=")), "serve"); !strings.Contains(said, "LATCHKEY_DATABASE_DIRECT_URL") {
					t.Errorf("a direct URL through the pooler: %s", said)
				}
				environ = append(environ, "LATCHKEY_DATABASE_DIRECT_URL="+database)
			}
			one, other := serve(t, environ), serve(t, environ)
			took := logoutsSeenBy(t, one, other)
			if len(took) == 0 || took[len(took)/2] > promptly {
				t.Errorf("ends took %s", took)
			}
			again := serve(t, environ) // a lock that was left in the pool would make it wait
			logoutsSeenBy(t, again, one)
			record("pgbouncer (Debian)", version, test.mode+" mode: three replicas, migrations, logins and logouts seen by the others, "+took[len(took)/2].Round(time.Millisecond).String()+" at the median", "ok")
		})
	}
}

// problems returns pgbouncer's log lines, without those about clients that connect and leave.
func (l *tail) problems() string {
	var kept []string
	for line := range strings.Lines(l.text()) {
		if !strings.Contains(line, "login attempt") && !strings.Contains(line, "client close request") && !strings.Contains(line, "new connection to server") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
