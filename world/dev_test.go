//go:build world

package world

import (
	"html"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
