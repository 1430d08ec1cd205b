//go:build world

package world

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	// watchAge is an age of connections for which a test can wait.
	watchAge = 5 * time.Second

	nginxWatch = `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server {
    listen %[2]s http2;
    location / { grpc_pass grpc://%[3]s; grpc_read_timeout 1h; }
  }
}
`
	haproxyWatch = `defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend grpc
  bind %[2]s proto h2
  default_backend latchkey
backend latchkey
  server one %[3]s proto h2
# files in %[1]s
`
)

// TestWatchEndsThroughProxies: when a stream's connection has grown old, and when the replica stops, clients behind a
// proxy see the same as clients without one.
func TestWatchEndsThroughProxies(t *testing.T) {
	t.Parallel()
	for name, proxy := range map[string]struct {
		config string
		args   func(dir string) []string
	}{
		"nginx":   {nginxWatch, func(dir string) []string { return []string{"nginx", "-p", dir, "-c", dir + "/config"} }},
		"haproxy": {haproxyWatch, func(dir string) []string { return []string{"haproxy", "-db", "-f", dir + "/config"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			packages := []string{name}
			if name == "nginx" { // another test installs its module; once, an nginx that ran ended while that was installed
				packages = append(packages, "libnginx-mod-http-js")
			}
			version := debian(t, packages...)[0]
			s := testenv.Start(t, testenv.Options{WallClock: true, ConnectionAge: watchAge})
			dir, front := t.TempDir(), "127.0.0.1:"+freePort(t)
			if err := os.WriteFile(filepath.Join(dir, "config"), fmt.Appendf(nil, proxy.config, dir, front, s.Addr), 0o644); err != nil {
				t.Fatal(err)
			}
			background(t, front, proxy.args(dir)...)

			began := time.Now()
			cursor, err := watchToTheEnd(t, front, "")
			wantStreamEnd(t, err)
			if lived := time.Since(began); lived < watchAge*9/10 {
				t.Errorf("ended after %s", lived)
			}
			record(name, version, "a watch whose connection grows old", "UNAVAILABLE STREAM_ENDED")

			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				time.Sleep(watchAge / 5) // the watch is under way by then; if not, it ends because of its age
				ctx, cancel := context.WithTimeout(context.Background(), exampleTime)
				defer cancel()
				s.Server.Shutdown(ctx, 0, nil)
			}()
			_, err = watchToTheEnd(t, front, cursor)
			wantStreamEnd(t, err)
			record(name, version, "a watch whose replica stops", "UNAVAILABLE STREAM_ENDED")
			<-stopped
		})
	}
}

// watchToTheEnd reads a stream, and returns its last cursor and its error.
func watchToTheEnd(t *testing.T, addr, cursor string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(testenv.WithKey(t.Context(), testenv.ServiceKey), exampleTime)
	defer cancel()
	request := &latchkeyv1.WatchRevocationsRequest{Cursor: cursor}
	stream, err := latchkeyv1.NewRevocationServiceClient(testenv.Dial(t, addr)).WatchRevocations(ctx, request)
	for err == nil {
		var response *latchkeyv1.WatchRevocationsResponse
		response, err = stream.Recv()
		if response.GetCursor() != "" {
			cursor = response.GetCursor()
		}
	}
	if cursor == "" {
		t.Errorf("the stream said nothing before it ended with %v", err)
	}
	return cursor, err
}

func wantStreamEnd(t *testing.T, err error) {
	t.Helper()
	reason, retry := "", false
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	if status.Code(err) != codes.Unavailable || reason != "STREAM_ENDED" || !retry {
		t.Errorf("the stream ended with %v (reason %q, RetryInfo %t)", err, reason, retry)
	}
}

// background runs a program that listens on addr until the test ends.
func background(t *testing.T, addr string, program ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program[0], program[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if path, err := exec.LookPath("/usr/sbin/" + program[0]); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testenv.Eventually(t, startTime, program[0]+" listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}
