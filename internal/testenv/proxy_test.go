package testenv_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// hangs is longer than any answer takes and short enough to wait for.
const hangs = 100 * time.Millisecond

func TestProxyCut(t *testing.T) {
	t.Parallel()
	proxy := testenv.NewProxy(t, testenv.EmptyDatabase(t))
	conn := connect(t, proxy.URL())
	exec(t, conn, "CREATE TABLE things ()")

	proxy.Cut()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlived the cut")
	}
	if _, err := pgx.Connect(t.Context(), proxy.URL()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection during a cut gives %v, want a refusal", err)
	}
	proxy.Cut() // a second call changes nothing
	proxy.Restore()
	proxy.Restore()
	conn = connect(t, proxy.URL())
	exec(t, conn, "INSERT INTO things DEFAULT VALUES")
}

func TestProxyFreeze(t *testing.T) {
	t.Parallel()
	direct := testenv.EmptyDatabase(t)
	watcher := connect(t, direct)
	exec(t, watcher, "CREATE TABLE things ()")
	for name, test := range map[string]struct {
		freeze  func(*testenv.Proxy)
		reaches bool
	}{
		"both ways": {(*testenv.Proxy).Freeze, false},
		"answers":   {(*testenv.Proxy).FreezeAnswers, true},
	} {
		exec(t, watcher, "TRUNCATE things")
		arrived := func() bool { return count(t, watcher, "SELECT count(*) FROM things") == 1 }
		proxy := testenv.NewProxy(t, direct)
		conn := connect(t, proxy.URL())
		exec(t, conn, "SELECT 1")
		test.freeze(proxy)
		answered := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "INSERT INTO things DEFAULT VALUES")
			answered <- err
		}()
		if test.reaches {
			testenv.Eventually(t, 5*time.Second, name+": the server acts", arrived)
		}
		select {
		case err := <-answered:
			t.Fatalf("%s: a frozen connection answers: %v", name, err)
		case <-time.After(hangs):
		}
		if !test.reaches && arrived() {
			t.Errorf("%s: the server acts", name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), hangs)
		if _, err := pgx.Connect(ctx, proxy.URL()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: a new connection during a freeze gives %v, want no answer", name, err)
		}
		cancel()
		proxy.Restore()
		if err := <-answered; err != nil {
			t.Errorf("%s: after the freeze: %v", name, err)
		}
		if !arrived() {
			t.Errorf("%s: what was sent during the freeze is lost", name)
		}
	}
}

func TestProxyCutWhileFrozen(t *testing.T) {
	t.Parallel()
	proxy := testenv.NewProxy(t, testenv.EmptyDatabase(t))
	conn := connect(t, proxy.URL())
	exec(t, conn, "CREATE TABLE things ()")
	proxy.Freeze()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "INSERT INTO things DEFAULT VALUES")
		answered <- err
	}()
	time.Sleep(hangs / 5) // usually enough for the statement to reach the proxy; in any case it must not arrive
	proxy.Cut()
	if err := <-answered; err == nil {
		t.Error("the statement was answered")
	}
	proxy.Restore()
	if n := count(t, connect(t, proxy.URL()), "SELECT count(*) FROM things"); n != 0 {
		t.Error("a statement that was frozen and cut arrived")
	}
}

// TestProxyURLs uses a proxy before an echo server with every kind of URL.
func TestProxyURLs(t *testing.T) {
	t.Parallel()
	tcp, socket := echo(t, "tcp", "127.0.0.1:0"), echo(t, "unix", shortPath(t))
	for url, want := range map[string]string{
		"postgres://me:pw@" + tcp + "/db?sslmode=disable": "postgres://me:pw@:5432/db?sslmode=disable&host=/",
		"redis://:pw@" + tcp + "/3":                       "unix://:pw@/",
		"unix://" + socket + "?db=2":                      "unix:///",
	} {
		proxy := testenv.NewProxy(t, url)
		if !strings.HasPrefix(proxy.URL(), want) {
			t.Errorf("%s becomes %s, want %s…", url, proxy.URL(), want)
		}
		if strings.HasPrefix(url, "redis:") && !strings.HasSuffix(proxy.URL(), "?db=3") {
			t.Errorf("%s becomes %s: the database is lost", url, proxy.URL())
		}
		_, rest, _ := strings.Cut(proxy.URL(), "/latchkey-run-")
		rest, _, _ = strings.Cut(rest, "?")
		path := "/tmp/latchkey-run-" + rest
		if strings.HasPrefix(url, "postgres:") {
			path += "/.s.PGSQL.5432"
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4)
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(answer); err != nil || string(answer) != "ping" {
			t.Errorf("through %s: %q, %v", proxy.URL(), answer, err)
		}
		_ = conn.Close()
	}
	if failed := try(t, func(t testing.TB) {
		t.Helper()
		testenv.NewProxy(t, "rediss://127.0.0.1:1")
	}); failed == "" {
		t.Error("stands before TLS, which it cannot rename")
	}
}

func shortPath(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/s"
	const limit = 103
	if len(path) > limit {
		t.Fatalf("%s is too long for a socket", path)
	}
	return path
}

func echo(t *testing.T, network, address string) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}
