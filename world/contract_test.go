//go:build world

package world

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	// exampleTime bounds one run of an example.
	exampleTime = time.Minute
	// Both are in use: @grpc/proto-loader asks for 7.
	protobufjs7, protobufjs8 = "7.6.6", "8.8.1"
	flow                     = "sign up, log in, watch, refresh with a kept request id, read refusals, log out"
)

// exampleLines is the output of an example.
var exampleLines = regexp.MustCompile(`^signed up: ada-[-0-9a-f]{36}@example\.com
logged in: session ([-0-9a-f]{36})
watching revocations
refreshed: the repeat has the same refresh token
refused: (?:UNAUTHENTICATED|Unauthenticated) INVALID_CREDENTIALS \[\] trace id [0-9a-f]{32}
refused: (?:INVALID_ARGUMENT|InvalidArgument) VALIDATION_FAILED \[email: must be an address such as [^\]]*\] trace id [0-9a-f]{32}
revoked: REVOCATION_KIND_SESSION ([-0-9a-f]{36})
$`)

// TestExamples runs each program of examples/ against `latchkey dev`, as its README says.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := dev(t)
	key, err := os.ReadFile(filepath.Join(s.dir, "admin-key"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, pkg, version string, program ...string) {
		t.Helper()
		endsInOneLine(t, 2, "LATCHKEY_SERVICE_KEY is not set", nil, program...)
		endsInOneLine(t, 1, "KEY_INVALID", []string{"LATCHKEY_ADDR=" + s.grpc, "LATCHKEY_SERVICE_KEY=wrong"}, program...)
		endsInOneLine(t, 1, "UNAVAILABLE", []string{"LATCHKEY_ADDR=127.0.0.1:1", "LATCHKEY_SERVICE_KEY=wrong"}, program...)
		settings := []string{"LATCHKEY_ADDR=" + s.grpc, "LATCHKEY_SERVICE_KEY=" + strings.TrimSpace(string(key))}
		out := command(t, exampleTime, nil, "env", append(settings, program...)...)
		if found := exampleLines.FindSubmatch(out); found == nil || string(found[1]) != string(found[2]) {
			t.Fatalf("it printed:\n%s", out)
		}
		record(pkg, version, flow, "works")
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		program := filepath.Join(t.TempDir(), "example")
		command(t, installTime, nil, "go", "build", "-o", program, "../examples/go")
		version := command(t, exampleTime, nil, "go", "list", "-m", "-f", "{{.Version}}", "google.golang.org/grpc")
		run(t, "google.golang.org/grpc", strings.TrimSpace(string(version)), program)
	})
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		var manifest struct{ Dependencies map[string]string }
		content, err := os.ReadFile("../examples/node/package.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(content, &manifest); err != nil {
			t.Fatal(err)
		}
		packages := []string{"protobufjs@" + protobufjs7}
		for name, version := range manifest.Dependencies {
			packages = append(packages, name+"@"+version)
		}
		dir := npm(t, packages...)
		repository(t, dir, "proto", "third_party")
		into(t, filepath.Join(dir, "examples", "node"), "../examples/node/main.js")
		run(t, "@grpc/grpc-js", manifest.Dependencies["@grpc/grpc-js"], node(t), filepath.Join(dir, "examples", "node", "main.js"))
		record("@grpc/proto-loader", manifest.Dependencies["@grpc/proto-loader"], "reads the proto files (protobufjs "+protobufjs7+")", "works")
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		versions := debian(t, "python3-grpcio", "python3-protobuf", "protobuf-compiler", "protobuf-compiler-grpc")
		dir := t.TempDir()
		repository(t, dir, "gen")
		python := filepath.Join(dir, "examples", "python")
		into(t, python, "../examples/python/main.py", "../examples/python/generate.sh")
		command(t, exampleTime, nil, "sh", filepath.Join(python, "generate.sh"))
		record("protobuf-compiler", versions[2], "Python from latchkey.binpb", "works")
		run(t, "python3-grpcio", versions[0], "/usr/bin/python3", filepath.Join(python, "main.py"))
	})
}

// endsInOneLine runs an example that cannot do its work: it prints the reason in one line, without a stack trace, and
// exits with that code.
func endsInOneLine(t *testing.T, code int, says string, settings []string, program ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), exampleTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Env = append(os.Environ(), settings...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run() // the exit code shows the result
	text := strings.TrimSuffix(stderr.String(), "\n")
	if got := cmd.ProcessState.ExitCode(); got != code || strings.Contains(text, "\n") || !strings.Contains(strings.ToUpper(text), strings.ToUpper(says)) {
		t.Errorf("%v %v: exit %d:\n%s", settings, program, got, text)
	}
}

// repository links folders of this repository into dir, where a copied example expects them.
func repository(t *testing.T, dir string, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		target, err := filepath.Abs(filepath.Join("..", folder))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
}

// into copies files into a new folder.
func into(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// services returns the proto files of all services, and of the details of their errors.
func services(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("../proto/latchkey/v1/*.proto")
	if err != nil || len(found) == 0 {
		t.Fatalf("no proto files: %v", err)
	}
	list := []string{"auth/auth.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"}
	for _, file := range found {
		list = append(list, "latchkey/v1/"+filepath.Base(file))
	}
	return list
}

// TestProtobufjs reads all proto files with both versions that are in use.
func TestProtobufjs(t *testing.T) {
	t.Parallel()
	dir := npm(t, "protobufjs7@npm:protobufjs@"+protobufjs7, "protobufjs8@npm:protobufjs@"+protobufjs8)
	repository(t, dir, "proto", "third_party")
	into(t, dir, "contract/load.cjs")
	for name, version := range map[string]string{"protobufjs7": protobufjs7, "protobufjs8": protobufjs8} {
		command(t, exampleTime, nil, node(t), append([]string{filepath.Join(dir, "load.cjs"), name}, services(t)...)...)
		record("protobufjs", version, "reads all proto files", "works")
	}
}

// TestProtoc generates code from the descriptor set with Debian's protoc, which cannot read the proto files.
func TestProtoc(t *testing.T) {
	t.Parallel()
	version := debian(t, "protobuf-compiler", "libprotobuf-dev")[0]
	set, err := filepath.Abs("../gen/descriptors/latchkey.binpb")
	if err != nil {
		t.Fatal(err)
	}
	files := append(services(t), "buf/validate/validate.proto", "grpc/health/v1/health.proto")
	for language, example := range map[string]string{
		"cpp": "latchkey/v1/auth_service.pb.h", "java": "io/github/latchkey_auth/latchkey/v1/LoginRequest.java",
		"csharp": "AuthService.cs", "python": "latchkey/v1/auth_service_pb2.py",
	} {
		dir := t.TempDir()
		command(t, exampleTime, nil, "protoc", append([]string{"--descriptor_set_in=" + set, "--" + language + "_out=" + dir}, files...)...)
		content, err := os.ReadFile(filepath.Join(dir, example))
		if err != nil {
			t.Fatal(err)
		}
		if language == "csharp" && !strings.Contains(string(content), "namespace Latchkey.V1 ") {
			t.Errorf("no namespace Latchkey.V1 in %s", example)
		}
		record("protobuf-compiler", version, language+" from latchkey.binpb", "works")
	}
	// This is why the set exists. If protoc can read the proto files some day, the set and its pages can be deleted.
	out, err := exec.CommandContext(t.Context(), "protoc", "-I../proto", "-I../third_party/proto", "--cpp_out="+t.TempDir(), "latchkey/v1/auth_service.proto").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `Option "debug_redact" unknown`) {
		t.Errorf("protoc reads the proto files now, or refuses something else: %v\n%s", err, out)
	}
	record("protobuf-compiler", version, "proto files", `refused: option "debug_redact" unknown`)
}
