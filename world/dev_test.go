//go:build world

package world

import (
	"context"
	"html"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// TestDevVerifyLine runs the line that `latchkey dev` prints for checking a token as another service does, with the
// real library, on a port that is not the default one.
func TestDevVerifyLine(t *testing.T) {
	t.Parallel()
	const version = "6.2.18"
	npm(t, "jose@"+version) // npm itself, and the package in its cache
	s := dev(t)
	resp, err := http.Get("http://" + s.http + "/") //nolint:noctx // this machine's own page
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`\(cd .* ACCESS_TOKEN\)`).FindString(html.UnescapeString(string(page)))
	if line == "" {
		t.Fatalf("the index has no line to try:\n%s", page)
	}
	// npm's audit calls servers that a machine may not reach, and waits a minute for them.
	line = "export npm_config_audit=false PATH=" + filepath.Dir(node(t)) + ":$PATH; " + strings.Replace(line, "jose@6 ", "jose@"+version+" ", 1)
	token := accessToken(t, s)
	out := command(t, installTime, nil, "sh", "-c", strings.Replace(line, "ACCESS_TOKEN", token, 1))
	if !strings.Contains(string(out), "iss: 'http://"+s.http+"'") {
		t.Errorf("it prints %s", out)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, "ACCESS_TOKEN", tampered(token), 1)).CombinedOutput(); err == nil {
		t.Errorf("a changed token passes: %s", out)
	}
	record("jose (npm)", version, "the line that dev prints takes a token, refuses a changed one", "ok")
}

const adaAddress, adaPassword = "ada@example.com", "correct horse battery staple"

// ada signs up and logs in at a new service. owner has her access token.
func ada(t *testing.T, addr string) (auth latchkeyv1.AuthServiceClient, account latchkeyv1.AccountServiceClient, owner context.Context) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	auth, account = latchkeyv1.NewAuthServiceClient(conn), latchkeyv1.NewAccountServiceClient(conn)
	_, err = auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: adaAddress, Password: adaPassword, FirstName: "Ada", LastName: "Lovelace"})
	check(t, err)
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: adaAddress, Password: adaPassword})
	check(t, err)
	return auth, account, metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+login.GetTokens().GetAccessToken())
}
