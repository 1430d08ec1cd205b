package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// TestRun makes a whole run, too small and too short for meaningful figures. It checks that what is loaded is what the
// service reads: accounts log in, sessions are refreshed.
func TestRun(t *testing.T) {
	t.Parallel()
	if _, err := devstack.FindRedis(); err != nil {
		t.Skip("needs a real Redis: ", err)
	}
	binary := filepath.Join(t.TempDir(), "latchkey")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/latchkey-auth/latchkey/cmd/latchkey")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	// Not t.TempDir: PostgreSQL's own user could not enter it.
	dir, err := os.MkdirTemp("", "scalebench-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{
		"-accounts", "2000", "-beside", "1000", "-rounds", "1", "-window", "200ms", "-latchkey", binary, "-dir", dir, "-shared-buffers", "128MB",
	})
	if err != nil {
		t.Fatal(err)
	}
	var progress, printed bytes.Buffer
	r, err := measure(t.Context(), o, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if err := r.print(&printed); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2000 accounts, 200 sessions and 200 rows", "RefreshToken", "ListUsers, 100 anywhere", "not cached", "a session, in Redis", "Index Scan", "commit_delay"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, printed.String())
		}
	}
	if len(r.Calls) != len(calls()) || len(r.Starts) != 2 || len(r.Appends) == 0 {
		t.Errorf("the report lacks a part:\n%s", printed.String())
	}
	for _, c := range r.Calls {
		if c.Large.Requests == 0 || c.Small.Requests == 0 || c.Ratio <= 0 {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	for _, b := range r.Bytes {
		if b.Rows == 0 || b.Table < 16 {
			t.Errorf("%+v", b)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("the run left %v, %v", left, err)
	}
}

func TestSameAccounts(t *testing.T) {
	t.Parallel()
	s, other := &site{accounts: 5000, sessions: 600}, &site{accounts: 5000, sessions: 600}
	seen, owners := map[string]bool{}, map[int64]int{}
	for n := range s.accounts {
		p := s.person(n)
		if p != other.person(n) {
			t.Fatalf("account %d is another one in the next run", n)
		}
		if seen[p.email] || seen[p.id.String()] || p.id.Version() != 4 {
			t.Fatalf("account %d: %+v", n, p)
		}
		seen[p.email], seen[p.id.String()] = true, true
		if n > 0 && !s.person(n-1).created.Before(p.created) {
			t.Fatalf("account %d was created before the one before", n)
		}
	}
	for n := range s.sessions {
		owners[s.owner(n)]++
	}
	if len(owners) != 200 || owners[0] != sessionsEach || owners[s.owner(s.sessions-1)] != sessionsEach {
		t.Errorf("%d owners", len(owners))
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	p := &starts{Each: [2][]float64{{200, 100, 400}, {100, 100, 100}}}
	p.summarise()
	if p.Large != 200 || p.Small != 100 || p.Ratio != 2 || p.Each[0][0] != 200 {
		t.Errorf("%+v", p)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-rounds", "0"}, {"-window", "1ms"}, {"-no-such"}, {"more"}, {"-accounts", "10"}, {"-beside", "10"}, {"-only", "nothing"}, {"-sessions", "2"},
	} {
		if err := run(t.Context(), args, &bytes.Buffer{}); !errors.As(err, new(*usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for accounts, want := range map[string]time.Duration{"100000": 300 * time.Millisecond, "10000000": 3 * time.Second} {
		if o, err := parse([]string{"-accounts", accounts}); err != nil || o.window != want {
			t.Errorf("%s accounts: %+v, %v", accounts, o, err)
		}
	}
}
