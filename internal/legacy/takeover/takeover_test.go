package takeover_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	return testenv.Connect(t, url)
}

func openRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func mustExec(t *testing.T, conn *pgx.Conn, statements string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func check(t *testing.T, conn *pgx.Conn, client redis.UniversalClient, keys takeover.Keys) *takeover.Report {
	t.Helper()
	return takeover.Check(t.Context(), takeover.Config{
		Conn: conn, Redis: client, Migrations: migrations.FS, Keys: keys, Now: func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) },
		Hash: func(encoded string) error {
			if strings.HasPrefix(encoded, "$argon2id$v=19$") {
				return nil
			}
			return errors.New("unusable")
		},
	})
}

// TestForeignSchemas: every difference from the older backends' schema is named.
func TestForeignSchemas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ sql, want string }{
		{"TRUNCATE users; ALTER TABLE users ALTER id DROP DEFAULT, ALTER id TYPE bigint USING 1", "users.id is bigint"},
		{"ALTER TABLE users DROP COLUMN password_hash", "users.password_hash is missing"},
		{"ALTER TABLE users ALTER id DROP DEFAULT, ALTER id TYPE text", "users.id is text"},
		{"ALTER TABLE users ALTER email TYPE char(255)", "users.email is character(255)"},
		{"ALTER TABLE users ALTER first_name TYPE varchar(50)", "users.first_name is character varying(50)"},
		{"ALTER TABLE users ALTER password_hash TYPE varchar(128)", "users.password_hash is character varying(128)"},
		{"CREATE DOMAIN name AS text; ALTER TABLE users ALTER last_name TYPE name", "users.last_name is name"},
		{"ALTER TABLE users ALTER created_at TYPE timestamp", "users.created_at is timestamp without time zone"},
		{"ALTER TABLE users ALTER last_login_at TYPE timestamp(3)", "users.last_login_at is timestamp(3) without time zone"},
		{"ALTER TABLE users ALTER updated_at TYPE date", "users.updated_at is date"},
		{"ALTER TABLE users ALTER is_active DROP DEFAULT, ALTER is_active TYPE int USING is_active::int, ALTER is_active SET DEFAULT 1", "users.is_active is integer"},
		{"ALTER TABLE users DROP COLUMN last_login_at", "users.last_login_at is missing"},
		{"ALTER TABLE users DROP COLUMN is_active", "users.is_active is missing"},
		{"ALTER TABLE users DROP COLUMN is_verified", "users.is_verified is missing"},
		{"ALTER TABLE users DROP COLUMN created_at", "users.created_at is missing"},
		{"ALTER TABLE users DROP COLUMN updated_at", "users.updated_at is missing"},
		{"ALTER TABLE users DROP COLUMN first_name", "users.first_name is missing"},
		{"ALTER TABLE users ALTER created_at DROP NOT NULL, ALTER created_at DROP DEFAULT; UPDATE users SET created_at = NULL WHERE email LIKE 'nora%'", "users.created_at may be NULL"},
		{"ALTER TABLE users ALTER last_name DROP NOT NULL; UPDATE users SET last_name = NULL", "users.last_name may be NULL"},
		{"ALTER TABLE users ALTER email DROP NOT NULL", "users.email may be NULL"},
		{"ALTER TABLE users ALTER is_verified DROP DEFAULT", "users.is_verified has no default"},
		{"ALTER TABLE users ADD name text NOT NULL DEFAULT ''; UPDATE users SET name = email; ALTER TABLE users ADD UNIQUE (name)", "users.name is unique and has one default for all accounts"},
		{"ALTER TABLE users DROP CONSTRAINT users_pkey, ADD number bigserial PRIMARY KEY", "users has no primary key (id)"},
		{"DROP TABLE schema_migrations; " + sqlxRecord + "; UPDATE _sqlx_migrations SET success = false WHERE version = 20240102000000", "migration 20240102000000 of the Rust backend has failed"},
		{"ALTER TABLE users ALTER email TYPE varchar(100)", "users.email is character varying(100)"},
		{"TRUNCATE users; CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); ALTER TABLE users ALTER email TYPE varchar(255) COLLATE ci", "nondeterministic collation"},
		{"ALTER TABLE users ALTER password_hash DROP NOT NULL", "users.password_hash may be NULL"},
		{"ALTER TABLE users ALTER is_active DROP NOT NULL", "users.is_active may be NULL"},
		{"UPDATE users SET last_login_at = now(); ALTER TABLE users ALTER last_login_at SET NOT NULL", "users.last_login_at is NOT NULL"},
		{"ALTER TABLE users ALTER id DROP DEFAULT", "users.id has no default"},
		{"ALTER TABLE users ALTER is_active SET DEFAULT false", "users.is_active has the default false"},
		{"ALTER TABLE users ADD tenant int; UPDATE users SET tenant = 1; ALTER TABLE users ALTER tenant SET NOT NULL", "users.tenant is NOT NULL without a default"},
		{"ALTER TABLE users ADD email_lookup varchar(255)", "users.email_lookup exists already and is not Latchkey's"},
		{"ALTER TABLE users DROP CONSTRAINT users_email_key", "users.email is not unique"},
		{"ALTER TABLE users DROP CONSTRAINT users_email_key; CREATE UNIQUE INDEX ON users (email) WHERE is_active", "users.email is not unique"},
		{"ALTER TABLE users DROP CONSTRAINT users_pkey", "users has no primary key (id)"},
		{"ALTER TABLE users ENABLE ROW LEVEL SECURITY", "row level security"},
		{"ALTER TABLE users SET UNLOGGED", "users is unlogged"},
		{"CREATE TABLE more () INHERITS (users)", "users inherits from a table, or a table inherits from it"},
		{"CREATE RULE r AS ON DELETE TO users DO INSTEAD NOTHING", "users has rules"},
		{"ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people", "users is a view"},
		{"ALTER TABLE users RENAME TO people; CREATE TABLE users (id uuid) PARTITION BY HASH (id)", "users is a partitioned table"},
		{"ALTER TABLE users RENAME TO people", "has 2 tables, but no table users"},
		{"CREATE SCHEMA old; ALTER TABLE users SET SCHEMA old", "there is one in schema old"},
		{`DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$`, "new tables would be made in schema"},
		{"DROP TABLE users, schema_migrations", "is empty: there is nothing to take over"},
		{"UPDATE schema_migrations SET dirty = true", "dirty at version 1"},
		{"DELETE FROM schema_migrations", "schema_migrations has 0 rows"},
		{"CREATE TABLE revocations (id int)", "there already is a table revocations"},
		{"CREATE VIEW replicas AS SELECT 1 AS one", "there already is a table replicas"},
		{"CREATE INDEX users_email_lookup_key ON users (last_name)", "there already is a users_email_lookup_key"},
		{"CREATE TABLE goose_db_version (id serial, applied int)", "goose_db_version belongs to another program"},
		{"CREATE TABLE goose_db_version (id serial, version_id bigint, is_applied boolean); INSERT INTO goose_db_version VALUES (1, 0, true), (2, 20240101, true)", "version 20240101"},
		{"CREATE TABLE goose_db_version (id serial, version_id bigint, is_applied boolean); INSERT INTO goose_db_version VALUES (1, 0, true), (2, 1, true), (3, 2, true), (4, 3, true)", "there is no table revocations"},
		{"CREATE TABLE river_job (id int)", "another program has a River queue here"},
	} {
		t.Run(test.sql, func(t *testing.T) {
			t.Parallel()
			old := testenv.Existing(t)
			conn := connect(t, old.DatabaseURL)
			mustExec(t, conn, test.sql)
			report := check(t, conn, openRedis(t, old.RedisURL), takeover.Keys{})
			if report.Redis == nil || report.Redis.GoRefresh.Total != 5 {
				t.Errorf("Redis was not read: %+v", report.Redis)
			}
			i := slices.IndexFunc(report.Problems, func(f takeover.Finding) bool { return strings.Contains(f.Text, test.want) })
			if report.Status != takeover.Failed || i < 0 || report.Problems[i].Right == "" {
				t.Fatalf("%s, %+v", report.Status, report.Problems)
			}
			// The advice mends it.
			advice := report.Problems[i].SQL
			if advice == "" {
				return
			}
			for statement := range strings.SplitSeq(advice, "; ") {
				mustExec(t, conn, statement)
			}
			report = check(t, conn, nil, takeover.Keys{})
			if slices.ContainsFunc(report.Problems, func(f takeover.Finding) bool { return strings.Contains(f.Text, test.want) }) {
				t.Errorf("after %s: %+v", advice, report.Problems)
			}
		})
	}
}

// sqlxRecord makes the table of sqlx, as it is after two migrations.
const sqlxRecord = `
	CREATE TABLE _sqlx_migrations (
		version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
		success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL);
	INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES
		(20240101000000, 'create users', true, sha384('1'), 1000000), (20240102000000, 'more', true, sha384('2'), 1000000)`

// TestOtherRecords: the table users decides, whichever program has migrated the database, or none.
func TestOtherRecords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sql      string
		warnings []string
		records  []takeover.Record
	}{
		"the Rust backend":   {"DROP TABLE schema_migrations; " + sqlxRecord, nil, []takeover.Record{{Table: "_sqlx_migrations", Program: "sqlx", Version: 20240102000000}}},
		"both":               {sqlxRecord, nil, []takeover.Record{{Table: "schema_migrations", Program: "golang-migrate", Version: 1}, {Table: "_sqlx_migrations", Program: "sqlx", Version: 20240102000000}}},
		"by hand":            {"DROP TABLE schema_migrations", []string{"no_record"}, []takeover.Record{}},
		"a later version":    {"UPDATE schema_migrations SET version = 2", []string{"other_version"}, []takeover.Record{{Table: "schema_migrations", Program: "golang-migrate", Version: 2}}},
		"another program's":  {"ALTER TABLE schema_migrations ALTER version TYPE varchar", []string{"other_record", "no_record"}, []takeover.Record{}},
		"with more programs": {"CREATE TABLE flyway_schema_history (version text)", nil, []takeover.Record{{Table: "schema_migrations", Program: "golang-migrate", Version: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.Existing(t).DatabaseURL)
			mustExec(t, conn, test.sql)
			report := check(t, conn, nil, takeover.Keys{Settings: takeover.Settings{Enabled: true}})
			if got := codesOf(report.Warnings); report.Status != takeover.Decisions || !slices.Equal(got, test.warnings) || !slices.Equal(report.Database.Records, test.records) ||
				!report.Database.AccountsRead || report.Database.Accounts.Total != 15 {
				t.Errorf("%s, %v, %+v, %+v", report.Status, got, report.Database, report.Problems)
			}
		})
	}
}

func codesOf(list []takeover.Finding) (codes []string) {
	for _, f := range list {
		codes = append(codes, f.Code)
	}
	return codes
}

// TestNothingToRead: if there are no accounts to count, the report names the tables that exist.
func TestNothingToRead(t *testing.T) {
	t.Parallel()
	for sql, tables := range map[string][]string{
		"DROP TABLE users, schema_migrations": nil,
		"DROP TABLE users; CREATE VIEW people AS SELECT 1; CREATE SCHEMA crm; CREATE TABLE crm.leads (id int)": {"crm.leads", "people", "schema_migrations"},
		"ALTER TABLE users DROP COLUMN email": nil,
	} {
		conn := connect(t, testenv.Existing(t).DatabaseURL)
		mustExec(t, conn, sql)
		report := check(t, conn, nil, takeover.Keys{})
		if d := report.Database; report.Status != takeover.Failed || d.AccountsRead || !slices.Equal(d.Tables, tables) || d.TablesTotal != int64(len(tables)) {
			t.Errorf("%s: %+v", sql, d)
		}
	}
}

// TestHarmlessDifferences: they are reported and do not prevent a takeover.
func TestHarmlessDifferences(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.Existing(t).DatabaseURL)
	mustExec(t, conn, `
		ALTER TABLE users ADD phone text, ADD points int NOT NULL DEFAULT 0, ADD handle text UNIQUE, ADD code uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
			ALTER email TYPE text, ALTER password_hash TYPE varchar(255), ALTER first_name TYPE varchar, ALTER last_name TYPE varchar(200),
			ALTER created_at TYPE timestamptz(3), ADD CONSTRAINT with_at CHECK (email LIKE '%@%'), DROP CONSTRAINT users_pkey, ADD UNIQUE (id);
		DROP TRIGGER update_users_updated_at ON users;
		DROP INDEX idx_users_email, idx_users_created_at;
		CREATE TRIGGER theirs BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
		CREATE TABLE orders (user_id uuid REFERENCES users (id))`)
	report := check(t, conn, nil, takeover.Keys{Settings: takeover.Settings{Enabled: true}})
	codes := codesOf(report.Warnings)
	if report.Status != takeover.Decisions || !slices.Equal(codes, []string{"extra_column", "extra_column", "extra_column", "extra_column", "other_triggers", "other_constraints"}) {
		t.Errorf("%s, %v, %+v", report.Status, codes, report.Problems)
	}
}

// TestAccounts: odd accounts are counted and the first are named. Nothing is shown of a hash that may be a password in
// the clear.
func TestAccounts(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.Existing(t).DatabaseURL)
	mustExec(t, conn, `
		INSERT INTO users (id, email, password_hash, first_name, last_name)
		SELECT ('00000000-0000-0000-0000-0000000000' || lpad(i::text, 2, '0'))::uuid, 'plain' || i || '@example.com', 'Geheim-' || i, 'F', 'L' FROM generate_series(1, 7) AS i;
		INSERT INTO users (email, password_hash, first_name, last_name) VALUES
			('bcrypt@example.com', '$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW', 'F', 'L'),
			('django@example.com', 'pbkdf2_sha256$260000$salt$hash', 'F', 'L'),
			('', '$argon2id$v=19$m=65536,t=3,p=2$a$b', 'F', 'L'),
			('no at sign', '', E'F\u0007', 'L'),
			('late`+"é"+`@example.com', '$argon2id$m=1$', '', 'L')`)
	report := check(t, conn, nil, takeover.Keys{})
	got := map[string]takeover.HashKind{}
	for _, kind := range report.Database.Accounts.Hashes {
		got[kind.Kind] = kind
	}
	for kind, want := range map[string][2]int64{
		"not recognised": {7, 7}, "bcrypt 2b cost 12": {1, 1}, "pbkdf2_sha256 260000": {1, 1}, "empty": {1, 1}, "argon2id of another form": {1, 1},
		"argon2id v=19 m=65536,t=3,p=2": {12, 0}, "argon2id v=19 m=19456,t=2,p=1": {4, 0},
	} {
		if got[kind].Count != want[0] || got[kind].Unusable != want[1] {
			t.Errorf("%s: %+v, want %v", kind, got[kind], want)
		}
	}
	find := func(code, text string) takeover.Finding {
		for _, f := range report.Warnings {
			if f.Code == code && strings.Contains(f.Text, text) {
				return f
			}
		}
		t.Errorf("no warning %s %s", code, text)
		return takeover.Finding{}
	}
	if f := find("unusable_hash", "not recognised"); f.Count != 7 || len(f.IDs) != 5 {
		t.Errorf("%+v", f)
	}
	if f := find("odd_addresses", ""); f.Count != 1 {
		t.Errorf("%+v", f)
	}
	if f := find("empty_addresses", ""); f.Count != 1 {
		t.Errorf("%+v", f)
	}
	if f := find("not_at_go_backend", "the Go backend refuses"); f.Count != 12 {
		t.Errorf("%+v", f)
	}
	if f := find("odd_names", ""); f.Count != 2 {
		t.Errorf("%+v", f)
	}
	text, err := json.Marshal(report)
	if err != nil || strings.Contains(string(text), "Geheim") || strings.Contains(string(text), "R9h/") || strings.Contains(string(text), "salt$") {
		t.Errorf("a hash is shown: %v\n%s", err, text)
	}
}

// TestSharedAddresses: addresses that differ in letter case, in Unicode's two ways to write one letter, and in the
// domain's two spellings.
func TestSharedAddresses(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.Existing(t).DatabaseURL)
	mustExec(t, conn, `
		INSERT INTO users (email, password_hash, first_name, last_name, created_at) VALUES
			(U&'jos\00e9@example.com', 'x', 'F', 'L', '2025-02-02'), (U&'JOSE\0301@example.com', 'x', 'F', 'L', '2025-02-01'),
			('Ida@xn--Bcher-kva.example', 'x', 'F', 'L', '2025-02-01'), ('ida@BÜCHER.example', 'x', 'F', 'L', '2025-02-02'),
			('jİm@example.com', 'x', 'F', 'L', '2025-02-01'), ('jim@example.com', 'x', 'F', 'L', '2025-02-01'),
			('straße@example.com', 'x', 'F', 'L', '2025-02-01'), ('strasse@example.com', 'x', 'F', 'L', '2025-02-01')`)
	report := check(t, conn, nil, takeover.Keys{})
	var addresses []string
	for _, g := range report.Decisions {
		addresses = append(addresses, g.Address)
		if g.Holder != g.Accounts[0].ID || len(g.Accounts) != 2 || !g.Accounts[0].CreatedAt.Before(g.Accounts[1].CreatedAt) {
			t.Errorf("%+v", g)
		}
	}
	if !slices.Equal(addresses, []string{"case.nora@example.com", "ida@xn--bcher-kva.example", "jos\u00e9@example.com"}) || report.DecisionsTotal != 3 {
		t.Errorf("%q, %d", addresses, report.DecisionsTotal)
	}
}

// TestRedis counts keys of every kind, on more than one page.
func TestRedis(t *testing.T) {
	t.Parallel()
	old := testenv.Existing(t)
	client := openRedis(t, old.RedisURL)
	disabled := "b47cb7a1-9e5d-4be0-9211-f77ca048a90e"
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		set := func(key, value string) { p.Set(t.Context(), key, value, time.Hour) }
		for range 2500 {
			set("refresh_token:"+uuid.NewString(), uuid.NewString()) // no account's
		}
		set("refresh_token:"+uuid.NewString(), disabled)
		set("refresh_token:"+disabled, "a.b.c")
		set("refresh_token:odd", "neither")
		set("password_reset:x", "neither")
		set("login_attempts:a@example.com", "5")
		set("login_attempts:b@example.com", "many")
		set("latchkey:session:{x}", "1")
		set("cart:1", "1")
		set("cart:2", "1")
		set("eyJhbGciOiJIUzI1NiJ9.geheim", "1")
		p.Set(t.Context(), "reset_token:"+uuid.NewString(), disabled, 0)
		p.RPush(t.Context(), "login_attempts:list", "1")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	report := check(t, connect(t, old.DatabaseURL), client, takeover.Keys{
		Settings: takeover.Settings{RustSecret: true}, IsRust: func(token string) bool { return token != "a.b.c" },
	})
	r := report.Redis
	if r == nil {
		t.Fatalf("%+v", report.Problems)
	}
	genuine := int64(3)
	if r.Keys != 11+2500+12 || r.GoRefresh != (takeover.Refresh{Total: 5 + 2501, UnknownUser: 2500, DisabledUser: 1}) ||
		r.RustRefresh.Total != 4 || *r.RustRefresh.Genuine != genuine || r.RustRefresh.DisabledUser != 1 || r.RustRefresh.UnknownUser != 0 ||
		r.GoResets != 1 || r.RustResets != 2 || r.LoginAttempts != 2 || r.LockedOut != 1 || r.Latchkey != 1 || r.Unknown != 3 || r.Unreadable != 4 || r.WithoutTTL != 1 {
		t.Errorf("%+v, %+v", r, r.RustRefresh)
	}
	if want := []takeover.Pattern{{Prefix: "cart:", Count: 2}, {Prefix: "(others)", Count: 1}}; !slices.Equal(r.Patterns, want) {
		t.Errorf("patterns %+v", r.Patterns)
	}
	codes := map[string]bool{}
	for _, f := range report.Warnings {
		codes[f.Code] = true
	}
	for _, want := range []string{"unreadable_keys", "keys_without_ttl", "worthless_tokens", "some_of_another_secret", "no_go_key"} {
		if !codes[want] {
			t.Errorf("no warning %s: %v", want, codes)
		}
	}
}

// TestKeys: findings from the settings alone.
func TestKeys(t *testing.T) {
	t.Parallel()
	at := func(text string) *time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	for want, keys := range map[string]takeover.Keys{
		"not_enabled":          {},
		"short_secret":         {Settings: takeover.Settings{RustSecret: true}, RustSecretBytes: 31},
		"go_key_unproved":      {Settings: takeover.Settings{GoKey: true}},
		"accept_until_past":    {Settings: takeover.Settings{AcceptUntil: at("2026-12-01T00:00:00Z")}},
		"accept_until_far":     {Settings: takeover.Settings{AcceptUntil: at("2027-12-02T00:00:00Z")}},
		"accept_until_missing": {Settings: takeover.Settings{GoKey: true}},
	} {
		report := takeover.Check(t.Context(), takeover.Config{Migrations: migrations.FS, Keys: keys, Now: func() time.Time { return *at("2026-12-01T00:00:00Z") }})
		if !slices.ContainsFunc(report.Warnings, func(f takeover.Finding) bool { return f.Code == want }) {
			t.Errorf("%s: %+v", want, report.Warnings)
		}
	}
	good := takeover.Keys{Settings: takeover.Settings{Enabled: true, GoKey: true, RustSecret: true, AcceptUntil: at("2027-01-01T00:00:00Z")}, RustSecretBytes: 32, GoProved: true}
	report := takeover.Check(t.Context(), takeover.Config{Migrations: migrations.FS, Keys: good, Now: func() time.Time { return *at("2026-12-01T00:00:00Z") }})
	if len(report.Warnings) != 0 {
		t.Errorf("%+v", report.Warnings)
	}
}

// TestSteps: the locks are read from the migrations' notes, so a new migration appears in the list.
func TestSteps(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.Existing(t).DatabaseURL)
	report := check(t, conn, nil, takeover.Keys{})
	locks := map[string][]string{}
	for _, s := range report.Steps {
		if s.Lock != "" {
			locks[s.Migration] = append(locks[s.Migration], s.Lock)
		}
	}
	const row, brief = "SHARE ROW EXCLUSIVE", "SHARE"
	for file, want := range map[string][]string{
		"00001_users.sql":           {brief, brief},
		"00002_email_lookup.sql":    {"ACCESS EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", row, row, row, "ROW EXCLUSIVE"},
		"00003_revocations.sql":     nil,
		"00005_password_resets.sql": {row},
		"00007_ledger.sql":          {row, row, row},
		"00016_address_forms.sql":   {"SHARE UPDATE EXCLUSIVE", "ROW EXCLUSIVE"},
	} {
		if !slices.Equal(locks[file], want) {
			t.Errorf("%s: %v, want %v", file, locks[file], want)
		}
	}
	if !report.Long("00002_email_lookup.sql") || report.Long("00007_ledger.sql") {
		t.Error("which migration is long")
	}
}
