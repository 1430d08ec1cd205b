package argon2

import (
	"encoding/hex"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// inProcess is set to what the tests below do in a process of their own.
const inProcess = "LATCHKEY_TEST_ARGON2"

// run runs one of the tests in another process with these variables.
func run(t *testing.T, test, act string, environment ...string) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "-test.run", "^"+test+"$", "-test.v")
	command.Env = append(command.Environ(), append(environment, inProcess+"="+act)...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	_, result, found := strings.Cut(string(output), "RESULT ")
	if !found {
		t.Fatalf("no result in %s", output)
	}
	result, _, _ = strings.Cut(result, "\n")
	return result
}

// TestOtherProcessors: on a processor without AVX-512, or without AVX2, another kernel computes the same.
func TestOtherProcessors(t *testing.T) {
	t.Parallel()
	if os.Getenv(inProcess) == "hash" { //nolint:forbidigo // the other process
		key := IDKey([]byte("password"), []byte("somesalt"), 2, 256, 1, 32)
		in := Input{Password: []byte("password"), Salt: []byte("somesalt"), Secret: []byte("secret")}
		secret := make([]byte, 32)
		if err := NewPool(1, Params{ID, 2, 256, 1}).Derive(t.Context(), secret, Params{ID, 2, 256, 1}, &in); err != nil {
			t.Fatal(err)
		}
		t.Log("RESULT " + Kernel() + " " + hex.EncodeToString(key) + " " + hex.EncodeToString(secret))
		return
	}
	in := Input{Password: []byte("password"), Salt: []byte("somesalt"), Secret: []byte("secret")}
	want := " 9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe " +
		hex.EncodeToString(compute(t, kernelGo(), Params{ID, 2, 256, 1}, in, 32))
	without := map[string]string{"cpu.avx2=off": "x/crypto", "cpu.avx2=on": Kernel()}
	if len(kernels()) == 2 {
		without["cpu.avx512f=off"] = "avx2"
	}
	for setting, name := range without {
		if got := run(t, "TestOtherProcessors", "hash", "GODEBUG="+setting); got != name+want {
			t.Errorf("%s: %s, not %s", setting, got, name+want)
		}
	}
}

// TestYields: on one processor, another goroutine has its turn after each piece of a hash, and not only when Go's
// scheduler interrupts the hash, after 10 ms.
func TestYields(t *testing.T) {
	t.Parallel()
	if os.Getenv(inProcess) == "turns" { //nolint:forbidigo // the other process
		var turns, pieces atomic.Int64
		over := make(chan struct{})
		k := counted(kernelGo(), func(n int64) { pieces.Store(n / int64(kernelGo().piece)) })
		go func() {
			for {
				select {
				case <-over:
					return
				default:
					turns.Add(1)
					runtime.Gosched()
				}
			}
		}()
		compute(t, k, Params{ID, 1, 8192, 1}, Input{}, 32)
		close(over)
		t.Logf("RESULT %d %d", turns.Load(), pieces.Load())
		return
	}
	turns, pieces, _ := strings.Cut(run(t, "TestYields", "turns", "GOMAXPROCS=1"), " ")
	got, err := strconv.Atoi(turns)
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(pieces)
	if err != nil {
		t.Fatal(err)
	}
	if most < 30 || got < most-2 {
		t.Errorf("%d turns beside %d pieces of a hash", got, most)
	}
}
