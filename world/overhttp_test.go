//go:build world

package world

import (
	"path/filepath"
	"regexp"
	"testing"
)

// TestConnectConformance runs the conformance suite of Connect's makers against internal/overhttp: Connect, gRPC and
// gRPC-Web, unary methods and streams of the server, HTTP/1.1 and HTTP/2 without TLS, protobuf and JSON, gzip. There are
// no exceptions.
func TestConnectConformance(t *testing.T) {
	t.Parallel()
	const folder = "conformance"
	commandIn(t, installTime, folder, nil, "sh", "generate.sh")
	server := filepath.Join(t.TempDir(), "server")
	commandIn(t, installTime, folder, nil, "go", "build", "-o", server, ".")
	out := commandIn(t, installTime, folder, nil, "go", "tool", "connectconformance", "--mode", "server", "--conf", "config.yaml", "--", server)
	counts := regexp.MustCompile(`(\d+) passed, 0 failed`).FindSubmatch(out)
	if len(counts) != 2 || len(counts[1]) < 4 {
		t.Fatalf("the suite says:\n%s", out)
	}
	record("Connect conformance suite", "1.0.7", string(counts[1])+" cases passed, none failed", "ok")
}
