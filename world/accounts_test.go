//go:build world

package world

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// terminal is a bash in which commands of a page are run, one block after the other.
type terminal struct {
	t     testing.TB
	stdin io.Writer
	lines chan string
	block int
}

func newTerminal(t testing.TB) *terminal {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--norc")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	check(t, err)
	ours, theirs, err := os.Pipe()
	check(t, err)
	cmd.Stdout, cmd.Stderr = theirs, theirs
	check(t, cmd.Start())
	_ = theirs.Close()
	term := &terminal{t: t, stdin: stdin, lines: make(chan string, 1000)}
	go func() {
		defer close(term.lines)
		for lines := bufio.NewReader(ours); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			term.lines <- line
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	return term
}

// run runs commands, and returns all that they print, and the exit code of the last one.
func (term *terminal) run(commands string) (printed, exit string) {
	term.t.Helper()
	const longest = 4 * time.Minute // a build of grpcurl
	term.block++
	end := fmt.Sprintf("--- end of block %d: ", term.block)
	// No command may read the next block.
	if _, err := io.WriteString(term.stdin, "{\n"+commands+"\n} < /dev/null\ncode=$?; echo; echo \""+end+"$code\"\n"); err != nil {
		term.t.Fatal(err)
	}
	var text strings.Builder
	late := time.After(longest)
	for {
		select {
		case line, ok := <-term.lines:
			if !ok {
				term.t.Fatalf("bash has ended in:\n%s\n%s", commands, &text)
			}
			if code, isEnd := strings.CutPrefix(line, end); isEnd {
				return text.String(), strings.TrimSpace(code)
			}
			text.WriteString(line)
		case <-late:
			term.t.Fatalf("this does not end:\n%s\n%s", commands, &text)
		}
	}
}

// promised returns what a page says that the commands before it print: the code of a first sentence that begins with
// "It prints".
func promised(prose string) (found []string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(prose), "It prints")
	if !ok {
		return nil, false
	}
	for _, part := range regexp.MustCompile("`([^`]+)`|[.:;]\\s|[.:;]$").FindAllStringSubmatch(rest, -1) {
		if part[1] == "" {
			break
		}
		found = append(found, part[1])
	}
	return found, true
}

// TestAccountsPage runs every command of docs/accounts.md, in the order of the page, and carries what its reader carries
// between service and browser.
func TestAccountsPage(t *testing.T) {
	t.Parallel()
	debian(t, "curl", "jq", "oathtool")
	page, err := os.ReadFile("../docs/accounts.md")
	check(t, err)
	// Odd parts are commands.
	parts := regexp.MustCompile("(?m)^```(?:sh)?$").Split(string(page), -1)
	if len(parts) < 20 || len(parts)%2 == 0 {
		t.Fatalf("%d parts", len(parts))
	}
	start := regexp.MustCompile(`^\s*((?:LATCHKEY_\w+=\S+ )*)LATCHKEY_DEV_DIR=(\S+) go run ./cmd/latchkey dev\s*$`).FindStringSubmatch(parts[1])
	if start == nil {
		t.Fatalf("the page does not begin with the start: %s", parts[1])
	}
	s := dev(t, strings.Fields(start[1])...)
	b, _ := chromium(t, s.passkeyPage(t))
	here := strings.NewReplacer("127.0.0.1:50051", s.grpc, "127.0.0.1:8080", s.http, start[2], s.dir, "go run ./cmd/latchkey", binary(t))
	term := newTerminal(t)
	carry := regexp.MustCompile("(?s)\\*\\*(Make|Use) a passkey\\*\\*.*?`(\\w+\\.json)`")
	for i := 3; i < len(parts); i += 2 {
		prose := parts[i+1]
		printed, exit := term.run(here.Replace(parts[i]))
		want, says := promised(prose)
		for _, text := range want {
			if !strings.Contains(printed, text) {
				t.Fatalf("%s\nprints no %s, but:\n%s", parts[i], text, printed)
			}
		}
		if !says && (exit != "0" || strings.Contains(printed, "ERROR:")) {
			t.Fatalf("%s\nfails with %s:\n%s", parts[i], exit, printed)
		}
		if step := carry.FindStringSubmatch(prose); step != nil {
			dir, _ := term.run("echo $dir")
			dir = strings.TrimSpace(dir)
			options, err := os.ReadFile(filepath.Join(dir, "options.json"))
			check(t, err)
			answer, state := b.press(map[string]string{"Make": "create", "Use": "get"}[step[1]], string(options))
			if answer == "" {
				t.Fatalf("%s a passkey: %s", step[1], state)
			}
			check(t, os.WriteFile(filepath.Join(dir, step[2]), []byte(answer), 0o600))
		}
	}
	record("grpcurl, oathtool, chromium", "-", "every command of docs/accounts.md", "as the page says")
}
