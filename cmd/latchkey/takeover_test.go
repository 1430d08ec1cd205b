package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	upperID = "4123f28c-9ef4-4de0-ae37-956d31926327" // Case.nora@Example.com, the older one
	lowerID = "fc5c31a0-fa13-4201-955e-18d61c7a88ae" // case.nora@example.com
)

// oldStores returns the snapshot and the settings with which Latchkey takes it over.
func oldStores(t *testing.T) (*testenv.ExistingBackend, map[string]string) {
	t.Helper()
	old := testenv.Existing(t)
	file := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(file, old.PublicKey, 0o600); err != nil {
		t.Fatal(err)
	}
	return old, map[string]string{
		"LATCHKEY_DATABASE_URL": old.DatabaseURL, "LATCHKEY_REDIS_URL": old.RedisURL, "LATCHKEY_LOG_LEVEL": "error",
		"LATCHKEY_LEGACY_ENABLED": "true", "LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE": file,
		"LATCHKEY_LEGACY_HS256_SECRET": old.JWT.Rust.Secret, "LATCHKEY_LEGACY_ACCEPT_UNTIL": "2027-03-01T00:00:00Z",
	}
}

// takeoverRun runs the command and returns its exit code and output.
func takeoverRun(t *testing.T, settings map[string]string, args ...string) (code int, out string, err error) {
	t.Helper()
	var b bytes.Buffer
	err = run(t.Context(), append([]string{"takeover"}, args...), pairs(settings), &b)
	return exitCode(err), b.String(), err
}

func takeoverCheck(t *testing.T, settings map[string]string, args ...string) (int, *takeover.Report) {
	t.Helper()
	code, out, err := takeoverRun(t, settings, append([]string{"check", "--json"}, args...)...)
	report := &takeover.Report{}
	if failed := json.Unmarshal([]byte(out), report); failed != nil {
		t.Fatalf("%v: %v\n%s", err, failed, out)
	}
	return code, report
}

func takeoverApply(t *testing.T, settings map[string]string, args ...string) string {
	t.Helper()
	code, out, err := takeoverRun(t, settings, append([]string{"apply"}, args...)...)
	if code != exitDone {
		t.Fatalf("apply %v: exit %d: %v\n%s", args, code, err, out)
	}
	return out
}

func findingCodes(list []takeover.Finding) []string {
	names := []string{}
	for _, f := range list {
		names = append(names, f.Code)
	}
	return names
}

// picture returns everything in a database that could be changed, as lines: rows with the transactions that wrote them,
// and the catalog.
func picture(t *testing.T, url string) []string {
	t.Helper()
	const catalog = `
		SELECT 'table ' || c.relname || ' ' || c.relkind::text || ' ' || c.xmin::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		UNION ALL SELECT 'column ' || attrelid::regclass::text || ' ' || attname || ' ' || xmin::text FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
		UNION ALL SELECT 'function ' || proname || ' ' || xmin::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL SELECT 'trigger ' || tgname || ' ' || xmin::text FROM pg_trigger
		UNION ALL SELECT 'index ' || indexrelid::regclass::text || ' ' || xmin::text || ' ' || indisvalid::text FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
		ORDER BY 1`
	list := queryStrings(t, url, catalog)
	if len(list) < 20 {
		t.Fatalf("only %d lines of catalog: %v", len(list), list)
	}
	tables := queryStrings(t, url, "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1")
	for _, table := range tables {
		query := fmt.Sprintf("SELECT '%[1]s ' || xmin::text || ' ' || to_jsonb(r)::text FROM %[1]s r ORDER BY 1", pgx.Identifier{table}.Sanitize())
		list = append(list, queryStrings(t, url, query)...)
	}
	return list
}

func queryStrings(t *testing.T, url, query string) []string {
	t.Helper()
	conn := connectTest(t, url)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	return testenv.Strings(t, conn, query)
}

func connectTest(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, url)
}

func mustExec(t *testing.T, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// redisPicture returns every key with its value, but not how long it lives, since that changes by itself.
func redisPicture(t *testing.T, url string) map[string]string {
	t.Helper()
	client := openTestRedis(t, url)
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, key := range keys {
		found[key] = client.Get(t.Context(), key).Val()
		if client.PTTL(t.Context(), key).Val() < 0 {
			t.Errorf("%s has no life any more", key)
		}
	}
	return found
}

func openTestRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	t.Errorf("%s changed", what)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("  now:    %.300s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("  before: %.300s", line)
		}
	}
}

// TestTakeover makes a whole takeover of the snapshot: the report before and after, that check writes nothing, and that
// a second apply changes nothing.
func TestTakeover(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	database, keys := picture(t, old.DatabaseURL), redisPicture(t, old.RedisURL)
	code, report := takeoverCheck(t, settings)
	if code != exitDecisions || report.Status != takeover.Decisions || report.Applied {
		t.Errorf("before: exit %d, %s, applied %v", code, report.Status, report.Applied)
	}
	if len(report.Problems) != 0 || !slices.Equal(findingCodes(report.Warnings), []string{"go_key_unproved"}) {
		t.Errorf("before: problems %v, warnings %v", report.Problems, report.Warnings)
	}
	wantAccounts := takeover.Accounts{Total: 15, Disabled: 1, Verified: 2, NeverLoggedIn: 10, Hashes: []takeover.HashKind{
		{Kind: "argon2id v=19 m=65536,t=3,p=2", Count: 11}, {Kind: "argon2id v=19 m=19456,t=2,p=1", Count: 4},
	}}
	if !reflect.DeepEqual(report.Database.Accounts, wantAccounts) {
		t.Errorf("accounts %+v", report.Database.Accounts)
	}
	if len(report.Decisions) != 1 || report.Decisions[0].Holder.String() != upperID || len(report.Decisions[0].Accounts) != 2 || report.DecisionsTotal != 1 {
		t.Errorf("decisions %+v", report.Decisions)
	}
	if r := report.Redis; r == nil || r.Keys != int64(len(keys)) || r.GoRefresh.Total == 0 || r.RustRefresh.Total == 0 ||
		*r.RustRefresh.Genuine != r.RustRefresh.Total || r.GoResets != 1 || r.RustResets != 1 || r.LoginAttempts != 1 || r.LockedOut != 0 || r.Unknown != 0 {
		t.Errorf("Redis %+v", r)
	}
	_, out, _ := takeoverRun(t, settings, "check")
	t.Log(out)
	for _, want := range []string{"15 accounts: 1 disabled, 2 verified", upperID, "would hold it", "ACCESS EXCLUSIVE on users", "Next: decide which accounts hold"} {
		if !strings.Contains(out, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	same(t, "what check only reads", picture(t, old.DatabaseURL), database)
	if got := redisPicture(t, old.RedisURL); !reflect.DeepEqual(got, keys) {
		t.Errorf("Redis changed: %v", got)
	}

	out = takeoverApply(t, settings)
	t.Log(out)
	code, report = takeoverCheck(t, settings)
	if code != exitDone || report.Status != takeover.Clear || !report.Applied || len(report.Decisions) != 0 || len(report.Held) != 1 || len(report.Steps) != 0 {
		t.Errorf("after: exit %d, %+v", code, report)
	}
	database = picture(t, old.DatabaseURL)
	takeoverApply(t, settings)
	same(t, "what the second apply found", picture(t, old.DatabaseURL), database)
	if got := redisPicture(t, old.RedisURL); !reflect.DeepEqual(got, keys) {
		t.Errorf("Redis changed: %v", got)
	}
}
