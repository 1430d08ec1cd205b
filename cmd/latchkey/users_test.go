package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

// bcryptHash is the hash of "user1password".
const bcryptHash = "$2a$05$bOWCsAoQI28jvWHl8Sb33.EBN8EikqMmUWUavEVg7Jh7a9MmCVCJO"

func usersDatabase(t *testing.T) (map[string]string, *pgxpool.Pool) {
	t.Helper()
	url := testenv.Migrated(t)
	return map[string]string{"LATCHKEY_DATABASE_URL": url}, openTestPool(t, url)
}

func runUsers(t *testing.T, settings map[string]string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"users"}, args...), pairs(settings), &out)
	return out.String(), err
}

func mustRunUsers(t *testing.T, settings map[string]string, args ...string) string {
	t.Helper()
	out, err := runUsers(t, settings, args...)
	if err != nil {
		t.Fatalf("users %v: %v\n%s", args, err, out)
	}
	return out
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func summary(t *testing.T, out string) importSummary {
	t.Helper()
	var s importSummary
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.Seconds, s.PerSecond = 0, 0
	return s
}

// allAccounts returns the rows of the table without the times of the import itself.
func allAccounts(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var text string
	err := pool.QueryRow(t.Context(), "SELECT coalesce(string_agg((to_jsonb(u) - 'updated_at')::text, E'\\n' ORDER BY id), '') FROM users u").Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestUsersRoundTrip: import makes the same accounts from the output of export, in both formats, over several pages of
// accounts with one time.
func TestUsersRoundTrip(t *testing.T) {
	t.Parallel()
	settings, pool := usersDatabase(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO users (email, email_lookup, password_hash, first_name, last_name, created_at, last_login_at, is_active, is_verified)
		SELECT 'User' || i || '@example.com', 'user' || i || '@example.com', CASE WHEN i % 3 = 0 THEN $1 ELSE $2 END,
			'A "quoted", one', CASE WHEN i % 2 = 0 THEN '' ELSE 'Ünï' END,
			timestamptz '2024-01-02 03:04:05.678901Z' + (i / 1500) * interval '1 day',
			CASE WHEN i % 5 = 0 THEN NULL ELSE timestamptz '2025-01-01 00:00:00.5Z' END, i % 7 <> 0, i % 2 = 0
		FROM generate_series(1, 3500) i`, password.None, bcryptHash)
	if err != nil {
		t.Fatal(err)
	}
	before := allAccounts(t, pool)
	for _, format := range []string{"jsonl", "csv"} {
		file := filepath.Join(t.TempDir(), "users")
		mustRunUsers(t, settings, "export", "--with-hashes", "--format", format, file)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		other, otherPool := usersDatabase(t)
		got := summary(t, mustRunUsers(t, other, "import", file, "--json"))
		if got.Created != 3500 || got.Read != 3500 || string(got.Format) != format || !got.Whole {
			t.Errorf("%+v", got)
		}
		if after := allAccounts(t, otherPool); after != before {
			t.Errorf("%s: other accounts than before", format)
		}
		// On the same table there is nothing to do.
		if got := summary(t, mustRunUsers(t, settings, "import", "--json", file)); got.Existing != 3500 {
			t.Errorf("again: %+v", got)
		}
		if out, err := runUsers(t, settings, "export", file); err == nil || !errors.Is(err, os.ErrExist) {
			t.Errorf("a file was written over: %s", out)
		}
	}
	if after := allAccounts(t, pool); after != before {
		t.Error("the table changed")
	}
	// Hashes are written only with the flag.
	if out := mustRunUsers(t, settings, "export"); strings.Count(out, "\n") != 3500 || strings.Contains(out, "$2a$") || strings.Contains(out, "password_hash") {
		t.Errorf("%.300s", out)
	}
	if out := mustRunUsers(t, settings, "export", "--format=csv"); !strings.HasPrefix(out, "id,email,first_name,last_name,created_at,last_login_at,active,email_verified\n") {
		t.Errorf("%.300s", out)
	}
}

// TestAttack19Export: strangers sign up with names that a spreadsheet would run. The export contains none that it would
// run, and an import of it has the names that they chose.
func TestAttack19Export(t *testing.T) {
	t.Parallel()
	settings, pool := usersDatabase(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
		SELECT '=' || i || '@example.com', '=' || i || '@example.com', $1, name, 'x;' || name
		FROM unnest(ARRAY['=HYPERLINK("https://evil.example";"Ada")', '+1', '-1', '@SUM(A1)', ' =1', '"=1', '''=1', '＝1', '''t Hooft']) WITH ORDINALITY AS n (name, i)`,
		bcryptHash)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	mustRunUsers(t, settings, "export", "--with-hashes", "--format", "csv", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 10 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows {
		for _, field := range row {
			for cell := range strings.SplitSeq(field, ";") {
				if strings.IndexAny(strings.TrimLeft(cell, ` "`), "=+-@＝") == 0 {
					t.Errorf("runs: %q", cell)
				}
			}
		}
	}
	other, otherPool := usersDatabase(t)
	if got := summary(t, mustRunUsers(t, other, "import", file, "--json")); got.Created != 9 {
		t.Errorf("%+v", got)
	}
	if before, after := allAccounts(t, pool), allAccounts(t, otherPool); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if out := mustRunUsers(t, settings, "export"); !strings.Contains(out, `"first_name":"=HYPERLINK(`) || !strings.Contains(out, `"first_name":"'t Hooft"`) {
		t.Errorf("JSON is not opened by spreadsheets: %s", out)
	}
}

// TestUsersImportReport: exit code, report, summary and dry run of a file with faults.
func TestUsersImportReport(t *testing.T) {
	t.Parallel()
	settings, pool := usersDatabase(t)
	var text strings.Builder
	for i := range 150 {
		fmt.Fprintf(&text, "{\"email\":\"ok%d@example.com\",\"password_hash\":\"%s\"}\n{\"email\":\"bad%d\",\"password_hash\":\"x\"}\n", i, bcryptHash, i)
	}
	text.WriteString("{\"email\":\"ok3@example.com\"}\nnot json\n")
	file := writeFile(t, "users.jsonl", text.String())
	report := filepath.Join(t.TempDir(), "report")
	wanted := importSummary{Format: "jsonl", Read: 302, Created: 150, Refused: 152, Unsaid: 150, Whole: true}
	for _, dry := range []bool{true, false} {
		args := []string{"import", "--json", "--report", report, file}
		if dry {
			args = append(args, "--dry-run")
		}
		out, err := runUsers(t, settings, args...)
		wanted.DryRun = dry
		if got := summary(t, out); !reflect.DeepEqual(got, wanted) {
			t.Errorf("%+v, want %+v", got, wanted)
		}
		if err == nil || exitCode(err) != exitFailed || err.Error() != "152 of 302 were refused" {
			t.Errorf("%v", err)
		}
		lines, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(strings.TrimSpace(string(lines)), "\n")
		if len(all) != 152 || !strings.HasPrefix(all[0], `{"line":2,"email":"bad0","reason":"the address does not have a form`) ||
			!strings.HasPrefix(all[150], `{"line":301,"email":"ok3@example.com","reason":"record 7 has this address`) || all[151] != `{"line":302,"reason":"it is not JSON"}` {
			t.Errorf("report of %d:\n%s\n%s\n%s", len(all), all[0], all[len(all)-2], all[len(all)-1])
		}
		var n int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&n); err != nil || n == 0 != dry {
			t.Errorf("dry run %v: %d accounts, %v", dry, n, err)
		}
	}
	if out, _ := runUsers(t, settings, "import", file); !strings.HasPrefix(out, "302 read, 0 created, 150 already there, 152 refused (jsonl, ") {
		t.Errorf("summary %s", out)
	}
}

// TestUsersImportWithoutHashes: a list of users without hashes, then the table with them.
func TestUsersImportWithoutHashes(t *testing.T) {
	t.Parallel()
	settings, _ := usersDatabase(t)
	list := writeFile(t, "list.json", `{"total":2,"users":[{"username":"ada","email":"ada@example.com","createdTimestamp":1508163776686},{"username":"bo","email":"bo@example.com","createdTimestamp":1508163776686}]}`)
	table := writeFile(t, "users.csv", "email;password_hash\nada@example.com;"+bcryptHash+"\nbo@example.com;\n")
	for _, step := range []struct{ file, dry, done string }{
		{list, "2 read, 2 would be created (2 without a password), 0 already there, 0 refused (keycloak, ", "2 read, 2 created (2 without a password), 0 already there, 0 refused (keycloak, "},
		{table, "2 read, 0 would be created, 2 already there (1 had none and would get their password), 0 refused (csv, ", "2 read, 0 created, 2 already there (1 had none and got their password), 0 refused (csv, "},
		{table, "2 read, 0 would be created, 2 already there, 0 refused (csv, ", "2 read, 0 created, 2 already there, 0 refused (csv, "},
	} {
		if out := mustRunUsers(t, settings, "import", "--dry-run", step.file); !strings.HasPrefix(out, step.dry) {
			t.Errorf("dry run: %s, want %s", out, step.dry)
		}
		if out := mustRunUsers(t, settings, "import", step.file); !strings.HasPrefix(out, step.done) {
			t.Errorf("%s, want %s", out, step.done)
		}
	}
	exported := mustRunUsers(t, settings, "export", "--with-hashes")
	if strings.Count(exported, bcryptHash) != 1 || strings.Count(exported, "password_hash") != 1 {
		t.Errorf("exported %s", exported)
	}
	if out := mustRunUsers(t, nil, "import", "--format", "list"); !strings.Contains(out, "keycloak     Keycloak's export") || strings.Count(out, "\n") != len(userfile.Formats()) {
		t.Errorf("formats: %s", out)
	}
}

// TestUsersRefusalsShown: people see a hundred refusals, and their texts cannot control the terminal.
func TestUsersRefusalsShown(t *testing.T) {
	t.Parallel()
	settings, pool := usersDatabase(t)
	var text strings.Builder
	text.WriteString("{\"email\":\"\\u001b[2Jx\"}\n")
	for range 150 {
		text.WriteString("x\n")
	}
	cfg, err := app.LoadSettings(pairs(settings), "tool")
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	u := &usersCommand{
		cfg: cfg, pool: pool, log: newLogger(cfg, nil), stdout: &stdout, stderr: &stderr,
		file: writeFile(t, "x", text.String()), format: "jsonl",
	}
	if err := u.importFile(t.Context()); err == nil {
		t.Error("nothing was refused")
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if len(lines) != 101 || strings.Contains(lines[0], "\x1b") || lines[1] != "line 2: it is not JSON" || !strings.Contains(lines[100], "--report FILE writes all") {
		t.Errorf("%d lines: %q, %q, %q", len(lines), lines[0], lines[1], lines[len(lines)-1])
	}
	// After an interruption the command says how to continue.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.importFile(ctx); err == nil || !strings.Contains(err.Error(), "run the same command again") {
		t.Errorf("interrupted: %v", err)
	}
}

// TestUsersImportFirebase: the key comes from a file.
func TestUsersImportFirebase(t *testing.T) {
	t.Parallel()
	settings, pool := usersDatabase(t)
	file := writeFile(t, "users.json", `{"users":[{"localId":"x","email":"f@example.com","passwordHash":"lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==","salt":"42xEC+ixf3L2lw=="}]}`)
	if _, err := runUsers(t, settings, "import", file); err == nil || !strings.Contains(err.Error(), "--firebase-config") {
		t.Errorf("without parameters: %v", err)
	}
	parameters := writeFile(t, "hash", "hash_config {\n  algorithm: SCRYPT,\n  base64_signer_key: jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==,\n  base64_salt_separator: Bw==,\n  rounds: 8,\n  mem_cost: 14,\n}")
	mustRunUsers(t, settings, "import", "--firebase-config", parameters, file)
	var hash string
	if err := pool.QueryRow(t.Context(), "SELECT password_hash FROM users").Scan(&hash); err != nil || !strings.HasPrefix(hash, "$firescrypt$ln=14,r=8,p=1$") {
		t.Errorf("%s, %v", hash, err)
	}
}

func TestUsersUsage(t *testing.T) {
	t.Parallel()
	settings, _ := usersDatabase(t)
	for _, args := range [][]string{
		{},
		{"delete"},
		{"import"},
		{"import", ""},
		{"import", "a", "b"},
		{"import", "--format", "xml", "a"},
		{"import", "--with-hashes", "a"},
		{"export", "--format", "keycloak"},
		{"export", "--dry-run"},
		{"export", "--json"},
		{"import", "--nope", "a"},
	} {
		if _, err := runUsers(t, settings, args...); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := runUsers(t, map[string]string{}, "export"); exitCode(err) != exitUsage {
		t.Errorf("without a database: %v", err)
	}
	for _, args := range [][]string{{"help"}, {"import", "-h"}} {
		want := usersGroup().helpFor(args) + "\n"
		if out := mustRunUsers(t, settings, args...); out != want || !strings.Contains(out, "latchkey users import [--format FORMAT]") {
			t.Errorf("%q: %s", args, out)
		}
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), writeFile(t, "x", "{\"nothing\":1}")} {
		if _, err := runUsers(t, settings, "import", file); exitCode(err) != exitFailed {
			t.Errorf("%v", err)
		}
	}
	empty := map[string]string{"LATCHKEY_DATABASE_URL": testenv.EmptyDatabase(t)}
	if _, err := runUsers(t, empty, "export"); err == nil || !strings.Contains(err.Error(), "latchkey migrate up") {
		t.Errorf("without the schema: %v", err)
	}
}
