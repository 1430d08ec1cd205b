//go:build world

package world

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

const grpcJS = "@grpc/grpc-js@1.14.7"

// TestMetadata: clients of others that send too much metadata lose the call and keep the connection, up to 64 KiB.
func TestMetadata(t *testing.T) {
	t.Parallel()
	s := dev(t)
	sizes := []string{"8", "15", "17", "24", "40", "60"}
	run := func(t *testing.T, pkg, version, name string, args ...string) {
		t.Helper()
		out := command(t, time.Minute, nil, name, append(append(args, s.grpc), sizes...)...)
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		if len(lines) != 2*len(sizes) {
			t.Fatalf("%s printed:\n%s", pkg, out)
		}
		for _, line := range lines {
			var seen struct {
				KiB                 int
				Values              int
				Code, After, Stream string
			}
			if err := json.Unmarshal(line, &seen); err != nil {
				t.Fatal(err)
			}
			want := "OK"
			if seen.KiB > 16 {
				want = "RESOURCE_EXHAUSTED"
			}
			if seen.Code != want || seen.After != "OK" || seen.Stream != "goes on" {
				t.Errorf("%s: %s", pkg, line)
			}
			record(pkg, version, fmt.Sprintf("a call with %d KiB of metadata in %d values: the stream beside it %s", seen.KiB, seen.Values, seen.Stream), seen.Code)
		}
	}
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		dir := npm(t, grpcJS)
		into(t, filepath.Join(dir, "metadata"), "metadata/client.js")
		writeFile(t, filepath.Join(dir, "metadata"), "package.json", `{"type":"module"}`)
		run(t, "@grpc/grpc-js", "1.14.7", node(t), filepath.Join(dir, "metadata", "client.js"))
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		run(t, "python3-grpcio (Debian)", debian(t, "python3-grpcio")[0], "/usr/bin/python3", "metadata/client.py")
	})
}
