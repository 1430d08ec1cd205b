package server_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	accounts "github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestSweep checks that rows that nothing needs are deleted, and no others.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	other := signUp(t, s, "bob@example.com")
	now := s.Clock.Now()
	execSQL(t, s, `INSERT INTO password_resets (user_id, token_hash, created_at, expires_at)
		SELECT id, sha256(email::bytea), $1::timestamptz, $1 + CASE WHEN id = $2 THEN interval '0' ELSE interval '1 second' END FROM users`, now, other.GetId())
	const retention = 90 * 24 * time.Hour
	execSQL(t, s, "UPDATE audit_events SET created_at = $1", now.Add(-retention))
	execSQL(t, s, "UPDATE audit_events SET created_at = created_at - interval '1 second' WHERE user_id = $1", other.GetId())
	upkeep := jobs.Upkeep{Pool: s.Pool, AuditRetention: retention, Now: s.Clock.Now}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"password_resets", "audit_events"} {
		all, gone := count(t, s, "SELECT count(*) FROM "+table), count(t, s, "SELECT count(*) FROM "+table+" WHERE user_id = $1", other.GetId())
		if all != 1 || gone != 0 {
			t.Errorf("%s: %d left, %d of them old", table, all, gone)
		}
	}
	// Rows of the ledger that say nothing new are deleted, except the newest.
	for _, keep := range []string{"-1 hour", "1 hour", "-1 hour"} {
		execSQL(t, s, "SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, now() + $1::interval)", keep)
	}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != 2 || count(t, s, "SELECT count(*) FROM revocations r, ledger_head h WHERE r.seq = h.seq") != 1 {
		t.Errorf("%d rows of the ledger are left, want the one in force and the newest", n)
	}
	execSQL(t, s, `INSERT INTO legacy_spent (token_hash, kind, user_id, spent_at, keep_until)
		SELECT sha256(age::text::bytea), 'refresh', gen_random_uuid(), $1, $1::timestamptz + age * interval '1 second' FROM generate_series(-1, 1) AS age`, now)
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE keep_until > $1", now); n != 1 || count(t, s, "SELECT count(*) FROM legacy_spent") != 1 {
		t.Errorf("%d spent tokens are left of those that are refused anyway", n)
	}
	execSQL(t, s, `INSERT INTO password_failures (user_id, kind, subject, failures, since)
		SELECT $1, kind, gen_random_uuid(), 1, $2::timestamptz - interval '365 days' - age * interval '1 second'
		FROM unnest('{login,device,change}'::text[]) AS kind, generate_series(0, 1) AS age`, other.GetId(), now)
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM password_failures WHERE kind <> 'login'"); n != 2 || count(t, s, "SELECT count(*) FROM password_failures") != 4 {
		t.Errorf("%d counts of clients are left, want the younger two; those of logins stay", n)
	}
	execSQL(t, s, "ALTER TABLE audit_events RENAME TO audit_events_gone")
	if err := upkeep.Sweep(t.Context()); err == nil {
		t.Error("a failure was not told")
	}
}

func TestStoredSettings(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	strong := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Argon2: argon.Params{MemoryKiB: 128, Time: 2, Threads: 2}})
	signUp(t, s, email)
	signUp(t, s, "bob@example.com")
	signUp(t, strong, "eve@example.com")
	for i, hash := range []string{
		"not a hash", "$argon2id$v=19$m=nonsense$x", "$2x$10$abcdefghijklmnopqrstuv",
		"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "$2b$10$.9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"bcrypt_sha256$$2b$12$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"$argon2d$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5", "$5$rounds=1400$salt$key", "$5$salt$key", "$apr1$salt$key",
		"$scrypt$ln=14,r=8,p=1$salt$key", "$firescrypt$ln=14,r=8,p=1$salt$key$Bw==$signer", "$pbkdf2-sha512$25000$salt$key",
		"$pbkdf2$1300000$salt$key", "$P$9saltsaltkey", "{SSHA256}key",
	} {
		execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, $2, 'F', 'L')", fmt.Sprintf("a%d@b", i), hash)
	}
	got, err := accounts.StoredSettings(t.Context(), s.Pool)
	if err != nil {
		t.Fatal(err)
	}
	want := []argon.Decoy{
		{Setting: "$2b$10$", Weight: 2},
		{Setting: "$argon2id$v=19$m=64,t=1,p=1$", Weight: 2},
	}
	for _, setting := range []string{
		"$5$", "$5$rounds=1400$", "$P$9", "$apr1$", "$argon2d$v=19$m=64,t=1,p=1$", "$argon2id$v=19$m=128,t=2,p=2$",
		"$firescrypt$ln=14,r=8,p=1$", "$pbkdf2$1300000$", "$pbkdf2-sha512$25000$", "$scrypt$ln=14,r=8,p=1$",
		"bcrypt_sha256$$2b$12$", "{SSHA256}",
	} {
		want = append(want, argon.Decoy{Setting: setting, Weight: 1})
	}
	slices.SortFunc(got, func(a, b argon.Decoy) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Setting, b.Setting))
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestRecentSettings: one replica counts, the others read what it has counted, until that is too old.
func TestRecentSettings(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	recent := func(within time.Duration) []argon.Decoy {
		t.Helper()
		got, err := accounts.RecentSettings(t.Context(), s.Pool, within)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := recent(time.Hour); len(got) != 0 {
		t.Errorf("%+v without an account", got)
	}
	signUp(t, s, email)
	if got := recent(time.Hour); len(got) != 0 {
		t.Errorf("counted again within an hour: %+v", got)
	}
	execSQL(t, s, "UPDATE hash_settings SET counted_at = now() - interval '61 minutes'")
	want := []argon.Decoy{{Setting: "$argon2id$v=19$m=64,t=1,p=1$", Weight: 1}}
	for _, within := range []time.Duration{time.Hour, math.MaxInt64} {
		if got := recent(within); !slices.Equal(got, want) {
			t.Errorf("after an hour: %+v", got)
		}
	}
	execSQL(t, s, "UPDATE hash_settings SET weights = '{7}', counted_at = now() - interval '10 years'")
	if got := recent(math.MaxInt64); len(got) != 1 || got[0].Weight != 7 {
		t.Errorf("a start does not take what was counted years ago: %+v", got)
	}
	execSQL(t, s, "UPDATE hash_settings SET weights = '{7,8}'")
	if got := recent(math.MaxInt64); !slices.Equal(got, want) {
		t.Errorf("a harmed row gives %+v", got)
	}
}
