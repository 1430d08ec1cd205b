package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
)

// TestTakeoverUsage: a meaningless command line exits with 2, and nothing is touched.
func TestTakeoverUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"undo"},
		{"check", "--yaml"},
		{"check", "now"},
		{"apply", "--holder", "me"},
		{"apply", "--json"},
		{"check", "--token"},
		{"check", "--token", "/does/not/exist"},
	} {
		settings := map[string]string{"LATCHKEY_DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
		if code, out, err := takeoverRun(t, settings, args...); code != exitUsage || out != "" || !strings.Contains(err.Error(), "takeover") {
			t.Errorf("%v: exit %d, %q, %v", args, code, out, err)
		}
	}
	for name, settings := range map[string]map[string]string{
		"no database": {}, "keys without an end": {
			"LATCHKEY_DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "LATCHKEY_LEGACY_ENABLED": "true", "LATCHKEY_LEGACY_HS256_SECRET": "x",
		},
	} {
		if code, _, err := takeoverRun(t, settings, "check"); code != exitUsage {
			t.Errorf("%s: exit %d, %v", name, code, err)
		}
	}
}

// TestTakeoverUnreachable: the report names each store that is away, whatever the other store's state is.
func TestTakeoverUnreachable(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	settings["LATCHKEY_REDIS_URL"] = "redis://127.0.0.1:1"
	code, report := takeoverCheck(t, settings)
	if code != exitFailed || !slices.Equal(findingCodes(report.Problems), []string{"redis_unreachable"}) || report.Database == nil || report.Redis != nil {
		t.Errorf("Redis away: exit %d, %+v", code, report.Problems)
	}
	settings["LATCHKEY_REDIS_URL"], settings["LATCHKEY_DATABASE_URL"] = old.RedisURL, "postgres://nobody:geheim@127.0.0.1:1/none"
	code, report = takeoverCheck(t, settings)
	if code != exitFailed || !slices.Equal(findingCodes(report.Problems), []string{"database_unreachable"}) || report.Database != nil || report.Redis == nil {
		t.Errorf("PostgreSQL away: exit %d, %+v", code, report.Problems)
	}
	if _, out, _ := takeoverRun(t, settings, "apply"); strings.Contains(out, "geheim") || !strings.Contains(out, "database_unreachable") {
		t.Errorf("apply: %s", out)
	}
	settings["LATCHKEY_DATABASE_URL"] = old.DatabaseURL
	delete(settings, "LATCHKEY_REDIS_URL")
	if code, report = takeoverCheck(t, settings); code != exitDecisions || !slices.Contains(findingCodes(report.Warnings), "no_redis") {
		t.Errorf("no Redis: exit %d, %+v", code, report.Warnings)
	}
}

// TestTakeoverBadInput: each fault is one problem with a name and a count, apply stops because of it, and nothing is
// changed.
func TestTakeoverBadInput(t *testing.T) {
	t.Parallel()
	const public, private = "LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE", "LATCHKEY_LEGACY_RS256_PRIVATE_KEY_FILE"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	another := write("another.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for name, test := range map[string]struct {
		set        map[string]string
		sql        string
		code, text string
		count      int64
	}{
		"wrong secret":      {set: map[string]string{"LATCHKEY_LEGACY_HS256_SECRET": "not the secret that it was, only longer"}, code: "wrong_secret", text: "0 of 3", count: 3},
		"missing key file":  {set: map[string]string{public: dir + "/none.pem"}, code: "public_key", text: public + " cannot be read: open " + dir + "/none.pem"},
		"no key":            {set: map[string]string{public: write("text", []byte("hello"))}, code: "public_key", text: "has no PEM block"},
		"private as public": {set: map[string]string{public: another}, code: "public_key", text: "holds a private key"},
		"missing private":   {set: map[string]string{private: dir + "/none.pem"}, code: "private_key", text: private + " cannot be read"},
		"another pair":      {set: map[string]string{private: another}, code: "key_pair", text: "different keys"},
		"dirty":             {sql: "UPDATE schema_migrations SET dirty = true", code: "foreign_schema", text: "dirty at version 1"},
		"table of others":   {sql: "CREATE TABLE revocations (id int)", code: "foreign_schema", text: "there already is a table revocations"},
		"column type":       {sql: "ALTER TABLE users ALTER is_active TYPE text", code: "foreign_schema", text: "users.is_active is text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, settings := oldStores(t)
			maps.Copy(settings, test.set)
			if test.sql != "" {
				mustExec(t, connectTest(t, old.DatabaseURL), test.sql)
			}
			before := picture(t, old.DatabaseURL)
			code, report := takeoverCheck(t, settings)
			i := slices.IndexFunc(report.Problems, func(f takeover.Finding) bool { return f.Code == test.code && strings.Contains(f.Text, test.text) })
			if code != exitFailed || i < 0 || report.Problems[i].Count != test.count {
				t.Errorf("exit %d, %+v", code, report.Problems)
			}
			code, out, err := takeoverRun(t, settings, "apply")
			if code != exitFailed || !strings.Contains(out, test.text) || !strings.Contains(err.Error(), "problem") {
				t.Errorf("apply: exit %d, %v\n%s", code, err, out)
			}
			same(t, "what apply refused", picture(t, old.DatabaseURL), before)
		})
	}
}

// TestTakeoverToken: one token proves that the key is the Go backend's, or that it is another one.
func TestTakeoverToken(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	file := filepath.Join(t.TempDir(), "token")
	for _, s := range old.Sessions {
		if err := os.WriteFile(file, []byte(s.AccessToken+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, report := takeoverCheck(t, settings, "--token", file)
		unproved := slices.Contains(findingCodes(report.Warnings), "go_key_unproved")
		if code != exitDecisions || unproved != (s.IssuedBy == "rust") {
			t.Errorf("%s: exit %d, unproved %v, %v", s.IssuedBy, code, unproved, report.Problems)
		}
		if err := os.WriteFile(file, []byte(s.AccessToken[:len(s.AccessToken)-4]+"AAAA"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, report = takeoverCheck(t, settings, "--token", file)
		if code != exitFailed || !slices.Equal(findingCodes(report.Problems), []string{"token_refused"}) || strings.Contains(report.Problems[0].Text, s.AccessToken[:20]) {
			t.Errorf("%s, forged: exit %d, %+v", s.IssuedBy, code, report.Problems)
		}
	}
}

// TestTakeoverByALesserRole: SELECT is enough for check. The report names the rights that apply needs, with the
// statements that grant them.
func TestTakeoverByALesserRole(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	conn := connectTest(t, old.DatabaseURL)
	role := "reader_" + strings.TrimPrefix(conn.Config().Database, "test_")
	mustExec(t, conn, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		last, err := pgx.Connect(ctx, old.DatabaseURL)
		if err == nil {
			_, err = last.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol)
			_ = last.Close(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	})
	mustExec(t, conn, "GRANT SELECT ON users, schema_migrations TO "+role)
	admin := conn.Config().User
	settings["LATCHKEY_DATABASE_URL"] = strings.Replace(old.DatabaseURL, admin, role, 1)
	before := picture(t, old.DatabaseURL)
	code, report := takeoverCheck(t, settings)
	if code != exitFailed || !slices.Equal(findingCodes(report.Problems), []string{"not_owner", "no_create"}) {
		t.Errorf("exit %d, %+v", code, report.Problems)
	}
	if report.Database == nil || report.Database.Accounts.Total != 15 || len(report.Decisions) != 1 || report.Redis.GoRefresh.UnknownUser != 0 {
		t.Errorf("not all was read: %+v, %+v", report.Database, report.Redis)
	}
	same(t, "what check only reads", picture(t, old.DatabaseURL), before)
	// The advice helps.
	for _, p := range report.Problems {
		advice, _, _ := strings.Cut(p.Right, ", or ")
		mustExec(t, conn, advice)
	}
	if code, report = takeoverCheck(t, settings); code != exitDecisions {
		t.Errorf("after the advice: exit %d, %+v", code, report.Problems)
	}
}

// TestTakeoverHolder: the operator chooses a holder, before or after apply; nothing else of the accounts changes.
func TestTakeoverHolder(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	holder := func() string {
		return queryStrings(t, old.DatabaseURL, "SELECT string_agg(id::text, ' ') FROM users WHERE email_lookup = 'case.nora@example.com'")[0]
	}
	const rest = "SELECT (to_jsonb(u) - 'email_lookup')::text FROM users u ORDER BY id"
	rows := queryStrings(t, old.DatabaseURL, rest)
	before := picture(t, old.DatabaseURL)
	for _, args := range [][]string{
		{"--holder", upperID, "--holder", lowerID},
		{"--holder", "4098cffe-e9f4-4147-b388-f30460d1cc34"}, // shares its address with nobody
		{"--holder", "00000000-0000-0000-0000-000000000001"},
	} {
		code, _, err := takeoverRun(t, settings, append([]string{"apply"}, args...)...)
		if code != exitFailed || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%v: exit %d, %v", args, code, err)
		}
	}
	same(t, "what was refused", picture(t, old.DatabaseURL), before)
	takeoverApply(t, settings, "--holder", lowerID)
	if got := holder(); got != lowerID {
		t.Errorf("held by %s", got)
	}
	ledger := queryStrings(t, old.DatabaseURL, "SELECT count(*)::text FROM revocations")
	takeoverApply(t, settings, "--holder", upperID)
	if got := holder(); got != upperID {
		t.Errorf("later: held by %s", got)
	}
	takeoverApply(t, settings) // changes no decision
	if got := holder(); got != upperID {
		t.Errorf("after another apply: held by %s", got)
	}
	// The holder is deleted: the other account takes its place.
	conn := connectTest(t, old.DatabaseURL)
	same(t, "the rest of the accounts", queryStrings(t, old.DatabaseURL, rest), rows)
	same(t, "the ledger", queryStrings(t, old.DatabaseURL, "SELECT count(*)::text FROM revocations"), ledger)
	mustExec(t, conn, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ('CASE.nora@example.com', 'x', 'F', 'L')")
	mustExec(t, conn, "DELETE FROM users WHERE id = $1", upperID)
	if code, report := takeoverCheck(t, settings); code != exitDecisions || len(report.Decisions) != 1 || report.Decisions[0].Holder.String() != lowerID {
		t.Errorf("without a holder: exit %d, %+v", code, report.Decisions)
	}
	takeoverApply(t, settings)
	if got := holder(); got != lowerID {
		t.Errorf("after the holder went: held by %s", got)
	}
}
